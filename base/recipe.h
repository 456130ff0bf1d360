/* base/recipe.h - recipe.yaml: sources, and a section of options a stage. The only file that sees libyaml.
 *
 *   sources: [docs.deb, pages/]
 *   clean:
 *     language: {min_score: 0.5}      # section "clean.language"
 *
 * Every key is a row of some section's option table; an unknown key is an error that names the nearest known one. */
#ifndef DP_BASE_RECIPE_H
#define DP_BASE_RECIPE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/opt.h"

struct dp_section {
    const char *name;    /* "ingest", "clean.rules" */
    const char *summary; /* a comment in the template */
    const struct dp_opt *rows;
    void *base;
};

struct dp_strings {
    char **v;
    size_t n;
};
int dp_strings_add(struct dp_strings *s, const char *text, struct dp_err *e);
void dp_strings_release(struct dp_strings *s);

/* Read `path` into the sections' structs; `sources` gets the list, as written. DP_CONFIG names line and key. Then the environment
 * (DPIPE_<SECTION>_<KEY>) is applied over it. */
int dp_recipe_load(const char *path, const struct dp_section *sections, size_t n, struct dp_strings *sources, struct dp_err *e);
/* Where values stand in a recipe: "section.key" or "sources.N", and the line. */
struct dp_recipe_places {
    struct dp_recipe_place {
        char name[64];
        size_t line;
    } *v;
    size_t n, cap;
};
void dp_recipe_places_release(struct dp_recipe_places *p);
/* The line of a name; 0 when it isn't in the recipe. */
size_t dp_recipe_line(const struct dp_recipe_places *p, const char *name);
/* The same as dp_recipe_load, for who wants to know more. With `problem` what is wrong is told to it, and loading goes on: the result is
 * negative only where nothing can be read, or without memory. */
struct dp_recipe_look {
    struct dp_recipe_places *places; /* filled; may be NULL */
    void (*problem)(void *ctx, const struct dp_err *e);
    void *ctx;
};
int dp_recipe_look_into(const char *path, const struct dp_section *sections, size_t n, struct dp_strings *sources, const struct dp_recipe_look *look,
                        struct dp_err *e);
/* The environment alone, where there is no recipe. */
int dp_recipe_environ(const struct dp_section *sections, size_t n, struct dp_err *e);
/* A commented recipe with every option at its default, commented out. */
void dp_recipe_template(const struct dp_section *sections, size_t n, struct dp_buf *out);

#endif
