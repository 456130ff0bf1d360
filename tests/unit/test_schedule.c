/* Times of the day and hours of work: what may be written, and when they are, over midnight, weeks and the change of the clocks. */
#include "daemon/schedule.h"
#include "tests/test.h"

static time_t at(int year, int month, int day, int hour, int minute)
{
    struct tm t = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute, .tm_isdst = -1};
    return mktime(&t);
}

static void zone(const char *tz)
{
    setenv("TZ", tz, 1);
    tzset();
}

TEST(times_come_in_turn)
{
    struct dp_err err = {0};
    struct dp_times t;
    zone("UTC");
    REQUIRE_OK(dp_times_parse(&t, NULL, &err));
    CHECK_INT(dp_times_next(&t, 1000), 0);
    REQUIRE_OK(dp_times_parse(&t, " 03:00 ,sun 04:30,Thu  20:15", &err));
    CHECK_INT(t.n, 3);
    /* 2026-11-24 is a Tuesday. */
    time_t now = at(2026, 11, 24, 2, 59);
    CHECK_INT(now = dp_times_next(&t, now), at(2026, 11, 24, 3, 0));
    CHECK_INT(now = dp_times_next(&t, now), at(2026, 11, 25, 3, 0));
    CHECK_INT(now = dp_times_next(&t, now), at(2026, 11, 26, 3, 0));
    CHECK_INT(now = dp_times_next(&t, now), at(2026, 11, 26, 20, 15));
    now = at(2026, 11, 29, 3, 30);
    CHECK_INT(now = dp_times_next(&t, now), at(2026, 11, 29, 4, 30));
    REQUIRE_OK(dp_times_parse(&t, "tue 00:00", &err)); /* today's is over: in a week, over the end of the year */
    CHECK_INT(dp_times_next(&t, at(2026, 12, 29, 0, 0)), at(2027, 1, 5, 0, 0));
}

TEST(clocks_change)
{
    struct dp_err err = {0};
    struct dp_times t;
    zone("CET-1CEST,M3.5.0,M10.5.0/3");
    REQUIRE_OK(dp_times_parse(&t, "02:30", &err));
    time_t now = at(2026, 3, 28, 12, 0); /* the hour from 2 to 3 of the 29th doesn't exist */
    int days = 0;
    for (time_t end = at(2026, 4, 2, 12, 0); (now = dp_times_next(&t, now)) && now < end; days++) {
        struct tm k;
        localtime_r(&now, &k);
        CHECK(k.tm_min == 30 && k.tm_hour >= 1 && k.tm_hour <= 3);
    }
    CHECK_INT(days, 5);
    zone("UTC");
}

TEST(hours_may_cross_midnight)
{
    struct dp_err err = {0};
    struct dp_hours h;
    zone("UTC");
    REQUIRE_OK(dp_hours_parse(&h, "", &err));
    CHECK(dp_hours_now(&h, 0));
    REQUIRE_OK(dp_hours_parse(&h, "22:00-06:00", &err));
    CHECK(dp_hours_now(&h, at(2026, 1, 1, 22, 0)) && dp_hours_now(&h, at(2026, 1, 1, 0, 0)) && dp_hours_now(&h, at(2026, 1, 1, 5, 59)));
    CHECK(!dp_hours_now(&h, at(2026, 1, 1, 6, 0)) && !dp_hours_now(&h, at(2026, 1, 1, 21, 59)));
    REQUIRE_OK(dp_hours_parse(&h, " 08:00 - 24:00 ", &err));
    CHECK(dp_hours_now(&h, at(2026, 1, 1, 23, 59)) && !dp_hours_now(&h, at(2026, 1, 1, 0, 0)));
}

TEST(what_is_no_time_is_refused)
{
    static const char *const times[] = {"3", "3h", "25:00", "24:00", "12:60", "xyz 03:00", "03:00 04:00", "03:00,,", "-1:00", "03:0", "mon"};
    static const char *const hours[] = {"22:00", "22:00-", "22:00-22:00", "22-06", "22:00-06:00 x", "22:00-25:00"};
    struct dp_times t;
    struct dp_hours h;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct dp_err err = {0};
        if (dp_times_parse(&t, times[i], &err) != DP_CONFIG) DP_TEST_FAIL("\"%s\" is taken", times[i]);
    }
    for (size_t i = 0; i < sizeof hours / sizeof *hours; i++) {
        struct dp_err err = {0};
        if (dp_hours_parse(&h, hours[i], &err) != DP_CONFIG) DP_TEST_FAIL("\"%s\" is taken", hours[i]);
    }
}
