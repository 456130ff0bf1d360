/* The dashboard of dpipe serve. No framework and no markup made from text: every string of the service, a document's above all, becomes a text
 * node (the page's policy forbids anything else: require-trusted-types-for 'script').
 *
 * One event stream tells what changed; the view that is open asks for its own data again, at most every two seconds. */
"use strict";

/* --- theme: before the first paint --- */

document.documentElement.classList.add("js");
const themes = ["auto", "light", "dark"];
let theme = "auto";
try { theme = themes.includes(localStorage.getItem("dpipe-theme")) ? localStorage.getItem("dpipe-theme") : "auto"; } catch { /* no storage: as the system */ }
function applyTheme() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
applyTheme();

/* --- elements --- */

const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const e = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k === "click") e.addEventListener("click", v);
    else if (k === "width%") e.style.width = v + "%";
    else e.setAttribute(k, v === true ? "" : v);
  }
  for (const c of children.flat(3)) if (c !== null && c !== undefined && c !== false) e.append(c);
  return e;
}

/* Replace what a box holds; the focus and the scroll position inside it stay where they were. */
function fill(box, ...children) {
  const key = box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const left = box.querySelector(".scroll")?.scrollLeft;
  box.replaceChildren(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  if (left) { const s = box.querySelector(".scroll"); if (s) s.scrollLeft = left; }
  if (key) for (const e of box.querySelectorAll("[data-key]")) if (e.dataset.key === key) { e.focus({ preventScroll: true }); break; }
}

/* A document's text, with what can't be seen made visible: controls, and marks that turn the direction or hide. */
const unseen = /(?:([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff])\1*)/g;
function visible(text) {
  const parts = [];
  let from = 0;
  for (const m of String(text).matchAll(unseen)) {
    const code = m[1].charCodeAt(0), name = code ? "U+" + code.toString(16).toUpperCase().padStart(4, "0") : "NUL";
    if (m[1] === "\r" && text[m.index + m[0].length] === "\n") continue;
    parts.push(text.slice(from, m.index), el("span", { class: "ctl" }, name + (m[0].length > 1 ? " \u00d7 " + number(m[0].length) : "")));
    from = m.index + m[0].length;
  }
  parts.push(String(text).slice(from));
  return parts;
}

/* --- numbers and times --- */

const plain = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const number = (n) => plain.format(n);
const plural = (n, one, many) => number(n) + " " + (n === 1 ? one : many || one + "s");

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let u = 0;
  for (; Math.abs(n) >= 999.5 && u < units.length - 1; u++) n /= 1000;
  return (u === 0 || n >= 99.95 ? Math.round(n).toString() : n >= 9.995 ? n.toFixed(1) : n.toFixed(2)) + "\u00a0" + units[u];
}
function short(n) {
  const units = ["", "k", "M", "G", "T"];
  let u = 0;
  if (n < 100000) return number(n);
  for (; n >= 999.5 && u < units.length - 1; u++) n /= 1000;
  return n.toPrecision(n >= 99.95 ? 3 : 3) + units[u];
}
function percent(a, b) {
  if (!b) return "";
  const p = 100 * a / b;
  return (p === 0 || p === 100 ? p.toFixed(0) : p < 0.1 ? "<0.1" : p > 99.9 ? ">99.9" : p.toFixed(1)) + "\u00a0%";
}
function seconds(s) {
  if (!isFinite(s)) return "";
  if (s < 0.9995) return s > 0 && s < 0.001 ? "<1\u00a0ms" : Math.round(s * 1000) + "\u00a0ms";
  if (s < 10) return s.toFixed(1) + "\u00a0s";
  s = Math.round(s);
  if (s < 90) return s + "\u00a0s";
  if (s < 5400) return Math.round(s / 60) + "\u00a0min";
  if (s < 172800) return Math.floor(s / 3600) + "\u00a0h\u00a0" + String(Math.round(s % 3600 / 60)).padStart(2, "0") + "\u00a0min";
  return Math.round(s / 86400) + "\u00a0days";
}
const whole = (s) => s < 10 ? Math.round(s) + "\u00a0s" : seconds(s);
function ago(unix) {
  const s = Math.round(Date.now() / 1000 - unix);
  return s < -1 ? "in " + whole(-s) : s < 5 ? "just now" : whole(s) + " ago";
}
const absolute = (unix) => new Date(unix * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
/* Relative, kept up to date by a timer, with the absolute time as title. */
function time(unix, none = "never") {
  if (!unix) return el("span", { class: "muted" }, none);
  return el("time", { datetime: new Date(unix * 1000).toISOString(), title: absolute(unix), "data-unix": unix }, ago(unix));
}
const exact = (n) => el("span", { title: number(n) + " bytes" }, bytes(n));

/* --- tables --- */

/* columns: {title, n: a number, wide: left out on phones, cell: row -> content, class}. The first is the row's heading. */
function table(label, columns, rows, empty, rowClass) {
  if (!rows.length) return el("p", { class: "empty" }, empty || "None.");
  const classes = (c) => [c.n && "n", c.wide && "wide", c.class].filter(Boolean).join(" ") || null;
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label, "data-key": "scroll-" + label },
    el("table", {},
      el("thead", {}, el("tr", {}, columns.map((c) => el("th", { scope: "col", class: [c.n && "n", c.wide && "wide"].filter(Boolean).join(" ") || null }, c.title)))),
      el("tbody", {}, rows.map((r) => el("tr", { class: rowClass ? rowClass(r) : null }, columns.map((c, i) =>
        i === 0 ? el("th", { scope: "row", class: classes(c) }, c.cell(r)) : el("td", { class: classes(c) }, c.cell(r))))))));
}

/* --- asking --- */

const memory = { token: "" };
try { memory.token = sessionStorage.getItem("dpipe-token") || ""; } catch { /* asked for again after a reload */ }
let login = null;

function askToken(wrong) {
  if (login) return login;
  $("login-error").textContent = wrong ? "The service refused this token." : "";
  login = new Promise((done) => {
    const dialog = $("login"), form = $("login-form");
    form.onsubmit = () => {
      memory.token = $("token").value.trim();
      try { sessionStorage.setItem("dpipe-token", memory.token); } catch { /* kept until a reload */ }
      $("token").value = "";
    };
    dialog.onclose = () => { login = null; done(); };
    dialog.showModal();
    $("token").focus();
  });
  return login;
}

async function request(path, options = {}) {
  for (;;) {
    const sent = memory.token;
    const headers = { ...options.headers };
    if (sent) headers.Authorization = "Bearer " + sent;
    const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin", redirect: "error" });
    if (answer.status !== 401) return answer;
    if (memory.token === sent) await askToken(!!sent);
    if (!memory.token || memory.token === sent) throw new Error("a token is wanted");
  }
}

async function get(path) {
  const answer = await request(path, { headers: { Accept: "application/json" } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error || answer.status + " " + answer.statusText);
  return body;
}

let saidTimer = 0;
function say(text) {
  $("said").textContent = text;
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => { $("said").textContent = ""; }, 6000);
}

async function act(paths, done, button) {
  if (button) button.disabled = true;
  try {
    for (const path of [paths].flat()) {
      const answer = await request(path, { method: "POST", headers: { "X-Dpipe-Action": "dashboard", Accept: "application/json" } });
      const body = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(body.error || answer.status + " " + answer.statusText);
    }
    say(done);
  } catch (e) {
    say("That failed: " + e.message);
  }
  if (button) button.disabled = false;
  refreshSoon(true);
}

/* --- the live state --- */

const live = { status: null, progress: null, disk: null, stages: null, events: [], lastEvent: 0, down: 0, points: [] };

const stateClass = { working: "good", idle: "good", retrying: "warn", starting: "warn", paused: "warn", draining: "warn", drained: "warn", stopping: "warn", "paused: disk": "bad" };

function drawBanners() {
  const s = live.status, list = [];
  if (live.down) list.push(["bad", "The service can't be reached since " + new Date(live.down).toLocaleTimeString("en-GB") + ". What is shown is what it said last; trying again."]);
  else if (s) {
    if (s.state === "paused: disk") list.push(["bad", "Paused: only " + bytes(live.disk ? live.disk.free : 0) + " of disk are free, the low mark is " + bytes(s.disk_low_mark) + ". Work resumes alone when there is a tenth more."]);
    else if (s.state === "paused") list.push(["warn", "Paused by request: running units are finished, none is begun."]);
    else if (s.state === "draining" || s.state === "drained") list.push(["warn", s.state === "drained" ? "Drained: nothing runs." : "Draining: running units are finished, none is begun."]);
    else if (s.state === "stopping") list.push(["warn", "The service is stopping."]);
    if (s.why.startsWith("stuck")) list.push(["bad", "Stuck: the step at hand makes no progress."]);
    if (s.error) list.push(["bad", "The last pass failed: " + s.error]);
    if (s.unwatched_folders) list.push(["warn", plural(s.unwatched_folders, "folder") + " beyond the limit of watches: changes there are found by rescans only."]);
  }
  const text = JSON.stringify(list);
  if ($("banners").dataset.shows === text) return; /* an alert that is drawn again is read out again */
  $("banners").dataset.shows = text;
  fill($("banners"), list.map(([kind, t]) => el("p", { class: "banner " + kind }, t)));
}

/* By the rate of late, once it is known: a step that was resumed counts what was done before. */
function eta(p) {
  if (!p || !p.total || p.done <= 0 || p.done >= p.total || p.seconds < 1) return NaN;
  const r = rate(live.points), long = live.points.length && live.points[live.points.length - 1].at - live.points[0].at >= 4000;
  return long ? (r && r.done > 0 ? (p.total - p.done) / r.done : NaN) : p.seconds * (p.total - p.done) / p.done;
}

function drawState() {
  const s = live.status, p = live.progress;
  drawBanners();
  $("live").textContent = live.down ? "not connected" : s ? "live" : "connecting";
  if (!s) return;
  $("state").textContent = s.state;
  $("state").className = "pill " + (live.down ? "" : s.ready ? stateClass[s.state] || "" : s.state === "starting" ? "warn" : s.state.startsWith("paused") || s.state.startsWith("drain") ? stateClass[s.state] : "bad");
  const rest = eta(p);
  $("why").textContent = s.why !== s.state ? s.why : p ? p.step + (p.total ? ", " + percent(p.done, p.total) : "") + (isFinite(rest) ? ", " + whole(rest) + " left" : "")
    : s.units_waiting ? plural(s.units_waiting, "unit") + " wait for a retry" : s.units_given_up ? plural(s.units_given_up, "unit") + " given up" : "";
  $("workspace").textContent = s.workspace;
  $("workspace").title = s.workspace;
  $("version").textContent = "dpipe " + s.version + ", process " + s.pid;
  document.title = s.state + " \u2013 dpipe";
  const paused = s.state.startsWith("paused") && s.state !== "paused: disk" || s.state.startsWith("drain");
  $("pause").textContent = paused ? "Resume" : "Pause";
  $("pause").disabled = s.state === "stopping" || !!live.down;
  $("rescan").disabled = s.state === "stopping" || !!live.down;
  const bad = s.units_waiting + s.units_given_up;
  $("failure-count").hidden = !bad;
  $("failure-count").textContent = number(bad);
  drawNow();
  drawFigures();
}

/* --- overview --- */

function sum(o) { return Object.values(o).reduce((a, b) => a + b, 0); }

function drawFigures() {
  const s = live.status, st = live.stages || [];
  if (!s) return;
  const first = st[0], at = (n) => st.find((x) => x.stage === n), token = at("tokenize"), dedup = at("dedup");
  const kept = dedup ? dedup.documents_out : st.length ? st[st.length - 1].documents_out : 0;
  const rows = [
    ["Documents read", first ? number(first.documents_in) : "0", first ? bytes(first.bytes_in) + " as read" : "nothing yet"],
    ["Kept", number(kept), first ? percent(kept, first.documents_in) + (dedup ? " after dedup" : " so far") : ""],
    ["Tokens", token ? short(token.bytes_out) : "0", token && token.documents_out ? number(token.bytes_out / token.documents_out) + " a document" : "no shards yet"],
    ["Units", number(s.units), s.units_waiting || s.units_given_up ? number(s.units_waiting) + " wait, " + number(s.units_given_up) + " given up" : "of the present plan"],
    ["Behind since", s.behind_since ? time(s.behind_since) : "up to date", s.retry_at ? ["next retry ", time(s.retry_at)] : s.pass_ended ? ["last pass ", time(s.pass_ended)] : ""],
    ["Disk free", live.disk ? bytes(live.disk.free) : "", !live.disk ? "" : s.disk_low_mark ? "pauses below " + bytes(s.disk_low_mark) : "no low mark is set"],
    ["Up", whole(Math.max(0, Date.now() / 1000 - s.began)), ["since ", el("span", { title: absolute(s.began) }, new Date(s.began * 1000).toLocaleDateString("en-GB"))]],
  ];
  fill($("figures"), rows.map(([k, v, note]) => el("div", {}, el("dt", {}, k), el("dd", {}, v, el("small", {}, note)))));
}

/* Rate over the last quarter of a minute; the points of one step only. */
function rate(points) {
  const last = points[points.length - 1], from = points.find((x) => last && last.at - x.at <= 15000);
  if (!last || !from || last.at - from.at < 900) return null;
  const s = (last.at - from.at) / 1000;
  return { done: (last.done - from.done) / s, documents: (last.documents - from.documents) / s };
}

function spark(points) {
  const w = 220, h = 44, values = [];
  for (let i = 1; i < points.length; i++) if (points[i].at > points[i - 1].at) values.push(Math.max(0, (points[i].done - points[i - 1].done) / (points[i].at - points[i - 1].at)));
  if (values.length < 3) return null;
  const max = Math.max(...values) || 1, xy = values.map((v, i) => (i * w / (values.length - 1)).toFixed(1) + "," + (h - 2 - (h - 6) * v / max).toFixed(1)).join("L");
  return el("svg:svg", { class: "spark", viewBox: "0 0 " + w + " " + h, preserveAspectRatio: "none", "aria-hidden": "true" },
    el("svg:path", { class: "under", d: "M0," + h + "L" + xy + "L" + w + "," + h + "Z" }), el("svg:path", { d: "M" + xy }));
}

function drawNow() {
  const p = live.progress, s = live.status;
  if (!p) {
    fill($("now"), el("p", {}, el("b", {}, s.state === "idle" ? "Everything is up to date." : "No step is running."),
      el("span", { class: "muted" }, plural(s.passes, "pass", "passes") + " since the start, " + plural(s.units_made, "unit") + " made")));
    return;
  }
  const amount = (n) => p.unit === "B" ? bytes(n) : number(n) + " " + p.unit, r = rate(live.points), rest = eta(p);
  fill($("now"),
    el("div", {},
      el("p", {}, el("b", {}, p.step), el("span", {}, amount(p.done) + (p.total ? " of " + amount(p.total) + " (" + percent(p.done, p.total) + ")" : "")),
        p.documents ? el("span", {}, plural(p.documents, "document")) : null,
        r ? el("span", {}, amount(Math.round(r.done)) + "/s" + (r.documents >= 1 ? ", " + number(r.documents) + " documents/s" : "")) : null,
        el("span", { class: "muted" }, whole(p.seconds) + " so far" + (isFinite(rest) ? ", " + whole(rest) + " left" : ""))),
      p.total ? el("div", { class: "meter", role: "progressbar", "aria-label": p.step, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * p.done / p.total) },
        el("i", { "width%": Math.min(100, 100 * p.done / p.total) })) : null),
    spark(live.points));
}

let reasonsShown = true;

function bar(stage, max, shape) {
  const d = sum(stage.dropped), q = stage.dropped.quarantined || 0, part = (n) => max ? 100 * n / max : 0;
  return el("div", { class: "bar " + shape, role: "img", "aria-label": percent(stage.documents_out, stage.documents_in) + " kept" },
    el("i", { class: "kept", "width%": part(stage.documents_out) }), el("i", { class: "dropped", "width%": part(d - q) }), el("i", { class: "quarantined", "width%": part(q) }));
}

function drawFunnel() {
  const st = live.stages;
  if (!st) return;
  if (!st.length) {
    fill($("funnel"), el("p", { class: "empty" }, "Nothing has been read yet. Put files into the recipe's sources, or into the folder spool/ of the workspace."));
    $("funnel-sum").textContent = $("funnel-check").textContent = "";
    return;
  }
  const max = Math.max(...st.map((x) => x.documents_in)), rows = [];
  let broken = 0, dropped = 0;
  for (const x of st) {
    const d = sum(x.dropped), dbytes = sum(x.dropped_bytes);
    dropped += d;
    if (x.documents_in !== x.documents_out + d) broken++;
    rows.push(el("tr", { class: "lead", "data-stage": x.stage },
      el("th", { scope: "row" }, x.stage, bar(x, max, "narrow")),
      el("td", { class: "bars wide" }, bar(x, max, "")),
      el("td", { class: "n", "data-in": x.documents_in }, number(x.documents_in)),
      el("td", { class: "n", "data-dropped": d }, d ? "\u2212" + number(d) : el("span", { class: "muted" }, "0")),
      el("td", { class: "n", "data-out": x.documents_out }, number(x.documents_out)),
      el("td", { class: "n wide" }, x.bytes_in ? exact(x.bytes_in) : ""),
      el("td", { class: "n wide" }, dbytes ? exact(dbytes) : ""),
      el("td", { class: "n wide" }, x.stage === "tokenize" ? number(x.bytes_out) + " tokens" : x.bytes_out ? exact(x.bytes_out) : "")));
    if (reasonsShown)
      for (const [reason, n] of Object.entries(x.dropped).sort((a, b) => b[1] - a[1]))
        rows.push(el("tr", { class: "reason" },
          el("th", { scope: "row" }, el("button", { type: "button", class: "link", "data-key": "reason-" + x.stage + reason, title: "Show samples", click: () => showSamples(reason) }, reason)),
          el("td", { class: "bars wide" }, el("div", { class: "bar thin", "aria-hidden": "true" }, el("i", { class: reason === "quarantined" ? "quarantined" : "dropped", "width%": max ? 100 * n / max : 0 }))),
          el("td", { class: "n" }, percent(n, x.documents_in)), el("td", { class: "n" }, "\u2212" + number(n)), el("td"), el("td", { class: "wide" }),
          el("td", { class: "n wide" }, x.dropped_bytes[reason] ? exact(x.dropped_bytes[reason]) : ""), el("td", { class: "wide" })));
  }
  const first = st[0], dedup = st.find((x) => x.stage === "dedup"), last = dedup || st[st.length - 1];
  /* In the middle of a pass the first stages are of the new state and the later ones, not made again yet, of the one before. */
  const behind = st.findIndex((x, i) => i > 0 && x.documents_in !== st[i - 1].documents_out);
  $("funnel-sum").textContent = behind > 0 ? number(first.documents_in) + " in; from " + st[behind].stage + " on as of the pass before"
    : number(first.documents_in) + " in, " + number(last.documents_out) + " kept, " + number(dropped) + " dropped";
  const head = (title, cls) => el("th", { scope: "col", class: cls }, title);
  fill($("funnel"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Funnel", "data-key": "scroll-funnel" }, el("table", {},
    el("thead", {}, el("tr", {}, head("Stage"),
      el("th", { scope: "col", class: "wide" }, el("span", { class: "legend" }, el("span", {}, "kept"), el("span", { class: "d" }, "dropped"), el("span", { class: "q" }, "quarantined"))),
      head("In", "n"), head("Dropped", "n"), head("Out", "n"), head("Bytes in", "n wide"), head("Bytes dropped", "n wide"), head("Bytes out", "n wide"))),
    el("tbody", {}, rows))));
  const check = $("funnel-check");
  check.className = "note " + (broken ? "bad" : "");
  check.textContent = broken ? plural(broken, "stage") + " where in isn\u2019t out + dropped: this must never be, please report it."
    : "In = out + dropped, exactly, in each of the " + st.length + " stages. Stages that clean also shorten what they keep, so their bytes may shrink by more than was dropped.";
}

function drawLately() {
  const rows = live.events.filter((e) => e.level !== "debug").slice(-8).reverse();
  fill($("lately"), table("Latest events", eventColumns, rows, "Nothing yet."));
}

const levelTag = (l) => el("span", { class: "tag " + (l === "error" ? "bad" : l === "warning" ? "warn" : "") }, l);
const eventColumns = [
  { title: "When", cell: (e) => time(Math.round(e.time_ms / 1000)) },
  { title: "Level", cell: (e) => levelTag(e.level) },
  { title: "Kind", wide: true, cell: (e) => e.kind },
  { title: "What", class: "wrap", cell: (e) => visible(e.text) },
];

/* --- dropped --- */

async function loadDropped() {
  const drops = (await get("/api/v1/drops")).drops, select = $("reason"), want = select.dataset.want ?? select.value, reasons = new Map();
  delete select.dataset.want;
  for (const d of drops) {
    const r = reasons.get(d.reason) || { documents: 0, help: d.help, stages: [] };
    r.documents += d.documents;
    r.stages.push(d.stage);
    reasons.set(d.reason, r);
  }
  if (want && !reasons.has(want)) reasons.set(want, { documents: 0, help: "", stages: [] });
  fill(select, el("option", { value: "" }, "all (" + number([...reasons.values()].reduce((a, r) => a + r.documents, 0)) + ")"),
    [...reasons].sort((a, b) => b[1].documents - a[1].documents).map(([name, r]) => el("option", { value: name }, name + " (" + number(r.documents) + ")")));
  select.value = want;
  const r = reasons.get(want);
  $("reason-help").textContent = r ? r.help + (r.stages.length ? " \u2013 dropped at " + r.stages.join(", ") : "") : "Some of each of the latest drop files; the filter looks further for its reason.";
  const samples = (await get("/api/v1/samples?limit=" + $("sample-limit").value + (want ? "&reason=" + encodeURIComponent(want) : ""))).samples;
  fill($("samples"), samples.length ? samples.map(drawSample)
    : el("p", { class: "empty" }, want.startsWith("duplicate") ? "Duplicates keep no sample: their text is that of a kept document." : "No sample of that."));
}

function drawSample(s) {
  const value = (v) => typeof v === "number" ? (Number.isInteger(v) ? number(v) : v.toPrecision(4)) : String(v);
  return el("article", { class: "sample", "aria-label": "dropped: " + s.reason },
    el("p", { class: "line" }, el("span", { class: "tag warn" }, s.reason),
      s.value !== undefined ? el("span", {}, "value ", el("b", {}, value(s.value)), s.limit !== undefined ? [", limit ", el("b", {}, value(s.limit))] : null) : null,
      s.bytes !== undefined ? el("span", { class: "muted" }, bytes(s.bytes)) : null, s.lang ? el("span", { class: "muted" }, "language " + s.lang) : null),
    el("p", { class: "line id" }, s.url ? el("span", {}, visible(s.url)) : null, s.pos ? el("span", { class: "muted" }, visible(s.pos)) : null, el("span", { class: "mono muted" }, s.id)),
    s.text ? el("pre", { tabindex: 0 }, visible(s.text)) : null);
}

function showSamples(reason) {
  $("reason").dataset.want = reason;
  openTab("dropped", true);
}

/* --- sources --- */

async function loadSources() {
  const [roots, languages] = await Promise.all([get("/api/v1/roots"), get("/api/v1/languages")]);
  const r = live.progress && live.progress.unit === "B" ? rate(live.points) : null, now = Date.now() / 1000;
  const all = roots.roots.reduce((a, x) => a + x.pending_bytes, 0);
  fill($("roots"), table("Sources", [
    { title: "Root", class: "wrap", cell: (x) => x.root ? visible(x.root) : "(below none of the roots)" },
    { title: "State", cell: (x) => x.failed ? el("span", { class: "tag bad" }, number(x.failed) + " failed") : x.pending ? el("span", { class: "tag warn" }, number(x.pending) + " to do")
      : x.files ? el("span", { class: "tag good" }, "up to date") : el("span", { class: "tag" }, "empty") },
    { title: "Lag", n: true, cell: (x) => x.oldest_pending ? el("span", { title: "the oldest file that isn\u2019t done is of " + absolute(x.oldest_pending) }, seconds(now - x.oldest_pending)) : "0\u00a0s" },
    { title: "Left", n: true, cell: (x) => x.pending_bytes ? [bytes(x.pending_bytes), r && r.done > 0 ? el("span", { class: "muted" }, " " + seconds(all / r.done)) : null] : "0\u00a0B" },
    { title: "Files", n: true, cell: (x) => number(x.files) },
    { title: "Bytes", n: true, cell: (x) => exact(x.bytes) },
    { title: "Newest", n: true, wide: true, cell: (x) => time(x.newest) },
    { title: "Documents", n: true, cell: (x) => number(x.documents) },
    { title: "Text", n: true, wide: true, cell: (x) => exact(x.text_bytes) },
    { title: "Dropped", n: true, cell: (x) => number(x.dropped) },
  ], roots.roots, "No source is registered."),
  roots.across.units ? el("p", { class: "note" }, plural(roots.across.units, "unit") + " of small files " + (roots.across.units === 1 ? "has" : "have") + " files of several roots: "
    + plural(roots.across.documents, "document") + " more, " + bytes(roots.across.text_bytes) + ", " + number(roots.across.dropped) + " dropped.") : null);
  const list = languages.languages.sort((a, b) => b.documents - a.documents), total = list.reduce((a, x) => a + x.documents, 0);
  let name = (code) => code;
  try { const names = new Intl.DisplayNames(["en"], { type: "language" }); name = (code) => code === "und" ? "not determined" : names.of(code); } catch { /* codes alone */ }
  fill($("languages"), table("Languages", [
    { title: "Language", cell: (x) => [x.language, el("span", { class: "muted" }, " " + name(x.language))] },
    { title: "", wide: true, class: "bars", cell: (x) => el("div", { class: "bar", "aria-hidden": "true" }, el("i", { class: "kept", "width%": total ? 100 * x.documents / total : 0 })) },
    { title: "Documents", n: true, cell: (x) => number(x.documents) },
    { title: "Share", n: true, wide: true, cell: (x) => percent(x.documents, total) },
    { title: "Bytes", n: true, cell: (x) => exact(x.bytes) },
    { title: "Tokens", n: true, cell: (x) => number(x.tokens) },
    { title: "Bytes a token", n: true, cell: (x) => x.tokens ? (x.bytes / x.tokens).toFixed(2) : "" },
  ], list, "No document is tokenized yet."));
  await files.load();
}

/* A list with "More": what is shown stays; refreshing asks for as much again. */
function paged(box, path, member, label, columns, empty, filter, shape) {
  const p = { rows: [], next: null, shown: 20 };
  const url = (after, limit) => path + "?limit=" + limit + (after ? "&after=" + after : "") + (filter ? filter() : "");
  const draw = () => fill($(box), table(label, columns, shape ? shape(p.rows) : p.rows, empty),
    p.next ? el("div", { class: "more" }, el("button", { type: "button", "data-key": "more-" + box, click: more }, "More"), el("span", { class: "muted" }, number(p.rows.length) + " shown")) : null);
  async function more() {
    try {
      const a = await get(url(p.next, 50));
      p.rows = p.rows.concat(a[member]);
      p.shown = Math.min(1000, p.rows.length);
      p.next = a.next;
      draw();
    } catch (e) { say(e.message); }
  }
  p.load = async () => {
    const a = await get(url(0, p.shown));
    p.rows = a[member];
    p.next = a.next;
    draw();
    return a;
  };
  return p;
}

const files = paged("files", "/api/v1/sources", "sources", "Files", [
  { title: "Path", class: "wrap", cell: (x) => visible(x.path) },
  { title: "Bytes", n: true, cell: (x) => exact(x.bytes) },
  { title: "Modified", n: true, cell: (x) => time(x.modified) },
  { title: "SHA-256", wide: true, class: "mono", cell: (x) => el("span", { title: x.digest }, x.digest.slice(0, 12)) },
], "No file is registered.");

/* --- failures --- */

/* A unit fails as a whole: its jobs, one for each thing that it makes, are shown and retried together. */
function byUnit(rows) {
  const units = new Map();
  for (const x of rows) {
    const key = x.what + "\n" + (x.error || ""), u = units.get(key);
    if (u) { u.stages.push(x.stage); u.ids.push(x.id); u.failures = Math.max(u.failures, x.failures); u.retry_at = Math.max(u.retry_at, x.retry_at); }
    else units.set(key, { ...x, stages: [x.stage], ids: [x.id] });
  }
  return [...units.values()];
}
const jobs = paged("jobs", "/api/v1/jobs", "jobs", "Failed units", [
  { title: "Unit", class: "wrap", cell: (x) => visible(x.what) },
  { title: "Stages", cell: (x) => x.stages.join(", ") },
  { title: "Failures", n: true, cell: (x) => number(x.failures) },
  { title: "Next try", n: true, cell: (x) => x.retry_at > Date.now() / 1000 ? time(x.retry_at) : el("span", { class: "muted" }, "on request") },
  { title: "Error", class: "wrap", cell: (x) => visible(x.error || "") },
  { title: "", class: "n", cell: (x) => el("button", { type: "button", "data-key": "retry-" + x.ids[0], "aria-label": "Retry " + x.what,
    click: (e) => act(x.ids.map((id) => "/api/v1/jobs/" + id + "/retry"), "It is tried again.", e.currentTarget) }, "Retry") },
], "No unit has failed.", () => "&state=failed", byUnit);

const quarantine = paged("quarantine", "/api/v1/quarantine", "quarantine", "Quarantine", [
  { title: "Document", class: "wrap", cell: (x) => [visible(x.url || x.path), x.position ? el("span", { class: "muted" }, " ", visible(x.position)) : null] },
  { title: "Killed its worker at", cell: (x) => x.stage },
  { title: "By", class: "wrap", cell: (x) => x.reason + ": " + x.what },
  { title: "State", cell: (x) => el("span", { class: "tag" }, x.state) },
  { title: "Deaths", n: true, cell: (x) => number(x.attempts) },
  { title: "Bytes", n: true, cell: (x) => exact(x.bytes) },
  { title: "When", n: true, cell: (x) => time(x.time) },
  { title: "Name", wide: true, class: "mono", cell: (x) => el("span", { title: x.name }, x.name.slice(0, 24)) },
], "No document is in quarantine.");

async function loadFailures() {
  const [a] = await Promise.all([jobs.load(), quarantine.load()]);
  $("retry-all").hidden = byUnit(a.jobs).length < 2;
}

/* --- workers --- */

const used = new Map(); /* pid -> {at, cpu} of the answer before: the difference is what it uses now */
async function loadWorkers() {
  const a = await get("/api/v1/workers"), now = performance.now();
  const share = (p) => {
    const before = used.get(p.pid);
    if (!p.pid) return "";
    used.set(p.pid, { at: now, cpu: p.cpu_seconds });
    return before && now - before.at > 300 ? Math.max(0, 100000 * (p.cpu_seconds - before.cpu) / (now - before.at)).toFixed(0) + "\u00a0%" : "";
  };
  const rows = [{ ...a.broker, role: "broker" }, ...a.workers.map((w, i) => ({ ...w, role: "worker " + (i + 1) }))].map((r) => ({ ...r, now: share(r) }));
  const most = Math.max(...rows.map((r) => r.rss_bytes));
  fill($("processes"), table("Processes", [
    { title: "Process", cell: (x) => x.role },
    { title: "pid", n: true, cell: (x) => x.pid || el("span", { class: "muted" }, "none") },
    { title: "Memory", n: true, cell: (x) => exact(x.rss_bytes) },
    { title: "", wide: true, cell: (x) => el("div", { class: "bar", "aria-hidden": "true" }, el("i", { class: "kept", "width%": most ? 100 * x.rss_bytes / most : 0 })) },
    { title: "CPU now", n: true, cell: (x) => x.now },
    { title: "CPU", n: true, cell: (x) => seconds(x.cpu_seconds) },
    { title: "Units", n: true, cell: (x) => x.units === undefined ? "" : number(x.units) },
    { title: "Deaths", n: true, cell: (x) => x.deaths === undefined ? "" : x.deaths ? el("span", { class: "bad" }, number(x.deaths)) : "0" },
    { title: "At", class: "wrap", cell: (x) => x.unit ? [visible(x.unit), el("span", { class: "muted" }, " " + plural(x.unit_documents, "document") + ", since " + seconds(Date.now() / 1000 - x.unit_begun))]
      : x.threads ? el("span", { class: "muted" }, plural(x.threads, "thread") + " for work") : el("span", { class: "muted" }, "at rest") },
    { title: "Begun", n: true, wide: true, cell: (x) => time(x.begun, "") },
  ], rows));
  const timed = (live.stages || []).filter((x) => x.ns > 0), all = timed.reduce((s, x) => s + x.ns, 0);
  fill($("times"), table("Stages by processor time", [
    { title: "Stage", cell: (x) => x.stage },
    { title: "", wide: true, class: "bars", cell: (x) => el("div", { class: "bar", "aria-hidden": "true" }, el("i", { class: "kept", "width%": all ? 100 * x.ns / all : 0 })) },
    { title: "CPU", n: true, cell: (x) => seconds(x.ns / 1e9) },
    { title: "Share", n: true, cell: (x) => percent(x.ns, all) },
    { title: "Throughput", n: true, cell: (x) => bytes(x.bytes_in / (x.ns / 1e9)) + "/s a core" },
    { title: "Documents", n: true, cell: (x) => number(x.documents_in / (x.ns / 1e9)) + "/s" },
  ], timed.sort((x, y) => y.ns - x.ns), "No stage has taken time yet."));
}

/* --- shards --- */

const shards = paged("shard-list", "/api/v1/shards", "shards", "Shards", [
  { title: "Shard", class: "mono", cell: (x) => x.name },
  { title: "Tokens", n: true, cell: (x) => number(x.tokens) },
  { title: "Documents", n: true, cell: (x) => number(x.documents) },
  { title: "Bytes", n: true, cell: (x) => exact(x.bytes) },
  { title: "Bytes a token", n: true, cell: (x) => x.tokens ? (x.bytes / x.tokens).toFixed(2) : "" },
  { title: "Compression", cell: (x) => x.compression },
  { title: "SHA-256", wide: true, class: "mono", cell: (x) => el("span", { title: x.sha256 }, x.sha256.slice(0, 12)) },
], "There are no shards yet.");

const artifacts = paged("artifacts", "/api/v1/artifacts", "artifacts", "Artifacts", [
  { title: "Name", class: "mono", cell: (x) => x.name },
  { title: "Kind", cell: (x) => x.kind },
  { title: "Bytes", n: true, cell: (x) => exact(x.bytes) },
  { title: "Documents", n: true, cell: (x) => x.documents ? number(x.documents) : "" },
  { title: "SHA-256", wide: true, class: "mono", cell: (x) => el("span", { title: x.digest }, x.digest.slice(0, 12)) },
], "Nothing is published yet.", () => $("kind").value ? "&kind=" + encodeURIComponent($("kind").value) : "");
const kinds = new Set();
let feeding = false; /* trainers move on without any event */

async function loadShards() {
  const [a, feed, b] = await Promise.all([shards.load(), get("/api/v1/feed"), artifacts.load()]), m = a.manifest;
  const pairs = (list) => el("dl", { class: "pairs" }, list.map(([k, v, mono]) => [el("dt", {}, k), el("dd", { class: mono ? "mono" : null }, v)]));
  fill($("manifest"), m ? pairs([["Hash", m.hash, true], ["File", m.name, true], ["Tokens", number(m.tokens)], ["Documents", number(m.documents)],
    ["Shards", number(m.shards)], ["Vocabulary", number(m.vocab_size)], ["Bytes", [exact(m.bytes), m.tokens ? el("span", { class: "muted" }, ", " + (m.bytes / m.tokens).toFixed(2) + " a token") : null]]])
    : el("p", { class: "empty" }, "There is no manifest yet."));
  const f = feed.feed;
  feeding = feed.serving;
  fill($("feed"), f ? [pairs([["Address", visible(f.address)], ["Requests", number(f.accepted) + " accepted, " + number(f.refused) + " refused"], ["Batches", number(f.batches)], ["Tokens", number(f.ids)]]),
    table("Trainers", [
      { title: "Trainer", class: "wrap", cell: (x) => visible(x.peer) },
      { title: "Rank", n: true, cell: (x) => number(x.rank) + " of " + number(x.world) },
      { title: "Batch", n: true, cell: (x) => number(x.batch) + " \u00d7 " + number(x.seq_len) },
      { title: "Sample", n: true, cell: (x) => number(x.sample) },
      { title: "Batches", n: true, cell: (x) => number(x.batches) },
      { title: "Tokens/s", n: true, cell: (x) => short(x.ids_per_s) },
      { title: "For", n: true, wide: true, cell: (x) => whole(x.seconds) },
    ], f.clients, "No trainer is connected.")]
    : el("p", { class: "empty" }, "This service serves no feed. Trainers read the shards by the library, or from dpipe feed."));
  for (const x of b.artifacts) kinds.add(x.kind);
  const select = $("kind"), want = select.value;
  if (select.options.length !== kinds.size + 1) {
    fill(select, el("option", { value: "" }, "all"), [...kinds].sort().map((k) => el("option", { value: k }, k)));
    select.value = want;
  }
}

/* --- training --- */

/* Round steps of an axis. */
function ticks(a, b, n) {
  const raw = (b - a) / n, ten = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((x) => x * ten).find((x) => x >= raw), list = [];
  for (let v = Math.ceil(a / step) * step; v <= b + step * 1e-9; v += step) list.push(v);
  return { list, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

async function loadTraining() {
  const t = await get("/api/v1/training"), all = [...t.loss, ...t.val_loss];
  if (!t.run || all.length < 2) {
    $("loss-sum").textContent = "";
    fill($("loss"), el("p", { class: "empty" }, "No model has been trained here. serve.until: train keeps one up to date."));
    return;
  }
  const w = Math.max(280, $("loss").clientWidth - 32), h = Math.max(220, Math.min(360, w * 0.45)), left = 48, right = 12, top = 10, bottom = 30;
  let x1 = Math.max(...all.map((p) => p[0])), y0 = Math.min(...all.map((p) => p[1])), y1 = Math.max(...all.map((p) => p[1]));
  if (!(y1 > y0)) { y0 -= 0.5; y1 += 0.5; }
  const pad = (y1 - y0) * 0.04, X = (v) => left + (w - left - right) * v / x1, Y = (v) => h - bottom - (h - top - bottom) * (v - y0 + pad) / (y1 - y0 + 2 * pad);
  const path = (list) => "M" + list.map((p) => X(p[0]).toFixed(1) + "," + Y(p[1]).toFixed(1)).join("L");
  const xt = ticks(0, x1, Math.max(3, w / 110)), yt = ticks(y0, y1, 6);
  const last = t.loss[t.loss.length - 1], lastVal = t.val_loss[t.val_loss.length - 1];
  const cursor = el("svg:line", { class: "cursor", y1: top, y2: h - bottom, visibility: "hidden" });
  const readout = el("span", { class: "muted", "aria-live": "off" });
  const svg = el("svg:svg", { class: "plot", viewBox: "0 0 " + w + " " + h, role: "img", "aria-label": "Loss by step: from " + all[0][1].toFixed(3) + " to " + (last || lastVal)[1].toFixed(3) + " at step " + number(t.steps) },
    yt.list.map((v) => [el("svg:line", { class: "grid", x1: left, x2: w - right, y1: Y(v), y2: Y(v) }), el("svg:text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, v.toFixed(yt.digits))]),
    xt.list.map((v) => el("svg:text", { x: X(v), y: h - 10, "text-anchor": "middle" }, number(v))),
    t.loss.length ? el("svg:path", { class: "loss", d: path(t.loss) }) : null,
    t.val_loss.length > 1 ? el("svg:path", { class: "val", d: path(t.val_loss) }) : null,
    t.val_loss.map((p) => el("svg:circle", { class: "dot", cx: X(p[0]), cy: Y(p[1]), r: t.val_loss.length > 60 ? 0 : 2.5 })), cursor);
  const nearest = (list, step) => list.reduce((a, p) => !a || Math.abs(p[0] - step) < Math.abs(a[0] - step) ? p : a, null);
  svg.addEventListener("pointermove", (e) => {
    const box = svg.getBoundingClientRect(), step = Math.max(0, Math.min(x1, ((e.clientX - box.left) * w / box.width - left) * x1 / (w - left - right)));
    const a = nearest(t.loss, step), b = nearest(t.val_loss, step);
    cursor.setAttribute("x1", X(step));
    cursor.setAttribute("x2", X(step));
    cursor.setAttribute("visibility", "visible");
    readout.textContent = "step " + number(a ? a[0] : step) + (a ? ": training " + a[1].toFixed(4) : "") + (b ? ", validation " + b[1].toFixed(4) + " at " + number(b[0]) : "");
  });
  svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); readout.textContent = ""; });
  const best = t.val_loss.reduce((a, p) => !a || p[1] < a[1] ? p : a, null);
  $("loss-sum").textContent = (t.finished ? "finished" : "in progress, as of its last checkpoint") + " at step " + number(t.steps);
  fill($("loss"), el("div", { class: "plot-box" }, svg), el("div", { class: "plot-legend" },
    el("span", { class: "legend" }, el("span", {}, "training" + (last ? " " + last[1].toFixed(4) : "")), t.val_loss.length ? el("span", { class: "d" }, "validation" + (lastVal ? " " + lastVal[1].toFixed(4) : "")) : null),
    best ? el("span", { class: "muted" }, "best validation " + best[1].toFixed(4) + " at step " + number(best[0])) : null, el("span", { class: "mono muted" }, t.run), readout));
}

/* --- history --- */

async function loadHistory() {
  const runs = (await get("/api/v1/runs?limit=100")).runs;
  /* What is there behind a run, and how much more that is than behind the one before. */
  const counted = (key) => (x) => {
    const before = runs.find((r) => r.number < x.number && r[key] !== undefined), d = x[key] === undefined || !before ? 0 : x[key] - before[key];
    return x[key] === undefined ? "" : [d ? el("span", { class: "muted" }, (d > 0 ? "+" : "\u2212") + number(Math.abs(d)) + "\u2002") : null, number(x[key])];
  };
  fill($("runs"), table("Runs", [
    { title: "Run", n: true, cell: (x) => number(x.number) },
    { title: "Result", cell: (x) => el("span", { class: "tag " + (x.result === "done" ? (x.failed ? "warn" : "good") : x.result === "stopped" ? "warn" : "bad") }, x.result) },
    { title: "Ended", n: true, cell: (x) => time(x.ended) },
    { title: "Took", n: true, cell: (x) => whole(x.ended - x.begun) },
    { title: "New files", n: true, cell: (x) => number(x.sources) },
    { title: "Units made", n: true, cell: (x) => number(x.made) },
    { title: "up to date", n: true, cell: (x) => number(x.found) },
    { title: "failed", n: true, cell: (x) => x.failed ? el("span", { class: "bad" }, number(x.failed)) : "0" },
    { title: "Documents", n: true, cell: counted("documents_read") },
    { title: "Kept", n: true, cell: counted("documents_kept") },
    { title: "Tokens", n: true, cell: counted("tokens") },
    { title: "Error", class: "wrap", cell: (x) => visible(x.error || "") },
  ], runs, "Nothing has been done yet."));
  const level = $("level").value, rank = { error: 3, warning: 2, info: 1, debug: 0 };
  const rows = live.events.filter((e) => !level || (level === "info" ? rank[e.level] >= 1 : e.level === level)).slice(-300).reverse();
  fill($("events"), table("Events", [{ title: "Number", n: true, cell: (e) => number(e.number) }, ...eventColumns], rows, "No such event."));
}

/* --- views --- */

const views = {
  overview: async () => { drawFunnel(); drawLately(); },
  dropped: loadDropped, sources: loadSources, failures: loadFailures, workers: loadWorkers, shards: loadShards, training: loadTraining, history: loadHistory,
};
let view = "overview", refreshAt = 0, refreshTimer = 0, loading = false;

async function refresh() {
  refreshTimer = 0;
  if (loading) return;
  loading = true;
  refreshAt = performance.now();
  const which = view;
  try {
    await views[which]();
  } catch (e) {
    if (!live.down && e.name !== "TypeError") say(e.message); /* TypeError: the connection, which the banner tells of */
  }
  loading = false;
  document.body.dataset.shown = which; /* for tests */
  if (which !== view) refreshSoon(true);
}

function refreshSoon(now) {
  if (refreshTimer && !now) return;
  clearTimeout(refreshTimer);
  refreshTimer = setTimeout(refresh, now ? 0 : Math.max(0, 2000 - (performance.now() - refreshAt)));
}

function openTab(name, focus) {
  view = name;
  for (const t of document.querySelectorAll('[role="tab"]')) {
    const on = t.id === "tab-" + name;
    t.setAttribute("aria-selected", on);
    t.tabIndex = on ? 0 : -1;
    $(t.getAttribute("aria-controls")).hidden = !on;
    if (on) t.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (on && focus) t.focus({ preventScroll: true });
  }
  if (location.hash !== "#" + name) history.replaceState(null, "", name === "overview" ? location.pathname : "#" + name);
  refreshSoon(true);
}

function tabKeys(e) {
  const tabs = [...document.querySelectorAll('[role="tab"]')], i = tabs.indexOf(e.target);
  const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[e.key];
  if (i < 0 || to === undefined) return;
  e.preventDefault();
  openTab(tabs[(to + tabs.length) % tabs.length].id.slice(4), true);
}

/* --- the stream --- */

function onProgress(p) {
  live.disk = { free: p.disk_free, total: p.disk_total };
  const before = live.progress;
  live.progress = p.progress || null;
  if (!p.progress || !before || before.step !== p.progress.step || p.progress.done < before.done) live.points = [];
  if (p.progress) live.points.push({ at: performance.now(), done: p.progress.done, documents: p.progress.documents });
  if (live.points.length > 120) live.points.shift();
  drawState();
}

function onMessage(name, data) {
  if (name === "state") {
    live.status = data;
    drawState();
    if (view !== "overview") refreshSoon();
  } else if (name === "progress") onProgress(data);
  else if (name === "stages") {
    live.stages = data.stages;
    drawFigures();
    refreshSoon(view === "overview");
  } else if (name === "event" && data.number > live.lastEvent) {
    live.lastEvent = data.number;
    live.events.push(data);
    if (live.events.length > 1024) live.events.shift();
    if (view === "overview") drawLately();
    if (view === "history" || view === "failures") refreshSoon();
  }
}

/* EventSource can't send the token's field, so the stream is read by hand (WHATWG HTML, 9.2.6). */
async function listen() {
  const control = new AbortController();
  let beat = setTimeout(() => control.abort(), 45000);
  const headers = { Accept: "text/event-stream", "Last-Event-ID": String(live.lastEvent) };
  const answer = await request("/api/v1/stream", { headers, signal: control.signal });
  if (!answer.ok) throw new Error("the stream answers " + answer.status);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", name = "", data = [];
  live.down = 0;
  drawState();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    clearTimeout(beat);
    beat = setTimeout(() => control.abort(), 45000); /* three heartbeats that didn't come */
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data.push(line.slice(6));
      else if (line === "") {
        if (data.length) onMessage(name, JSON.parse(data.join("\n")));
        name = "";
        data = [];
      }
    }
  }
  clearTimeout(beat);
}

async function listenForEver() {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 15000)) {
    try {
      await listen();
      wait = 1000;
    } catch { /* told below */ }
    if (!live.down) { live.down = Date.now(); wait = 1000; }
    drawState();
    await new Promise((done) => setTimeout(done, wait));
  }
}

/* --- start --- */

function nextTheme() {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  try { localStorage.setItem("dpipe-theme", theme); } catch { /* until a reload */ }
  applyTheme();
  showTheme();
}
function showTheme() {
  const names = { auto: "Auto", light: "Light", dark: "Dark" };
  $("theme").textContent = names[theme];
  $("theme").setAttribute("aria-label", "Colours: " + (theme === "auto" ? "as the system" : theme));
}

document.addEventListener("DOMContentLoaded", () => {
  showTheme();
  $("theme").addEventListener("click", nextTheme);
  $("pause").addEventListener("click", (e) => {
    const resume = e.currentTarget.textContent === "Resume";
    act(resume ? "/api/v1/resume" : "/api/v1/pause", resume ? "Work goes on." : "Paused: running units are finished.", e.currentTarget);
  });
  $("rescan").addEventListener("click", (e) => act("/api/v1/rescan", "Every source is looked through again.", e.currentTarget));
  $("retry-all").addEventListener("click", (e) => act("/api/v1/jobs/retry", "All failed units are tried again.", e.currentTarget));
  $("reasons").addEventListener("click", () => {
    reasonsShown = !reasonsShown;
    $("reasons").setAttribute("aria-expanded", reasonsShown);
    $("reasons").textContent = reasonsShown ? "Hide reasons" : "Show reasons";
    drawFunnel();
  });
  for (const id of ["reason", "sample-limit", "kind", "level"]) $(id).addEventListener("change", () => refreshSoon(true));
  /* A link can't send the token's field: with one, metrics are fetched and shown as text. */
  $("metrics-link").addEventListener("click", async (e) => {
    if (!memory.token) return;
    e.preventDefault();
    const answer = await request("/metrics");
    location.href = URL.createObjectURL(new Blob([await answer.text()], { type: "text/plain" }));
  });
  const tabs = document.querySelector('[role="tablist"]');
  tabs.addEventListener("keydown", tabKeys);
  for (const t of tabs.querySelectorAll("button")) t.addEventListener("click", () => openTab(t.id.slice(4)));
  addEventListener("hashchange", () => { if (views[location.hash.slice(1)]) openTab(location.hash.slice(1)); });
  openTab(views[location.hash.slice(1)] ? location.hash.slice(1) : "overview");
  setInterval(() => {
    for (const t of document.querySelectorAll("time[data-unix]")) t.textContent = ago(Number(t.dataset.unix));
    if (live.status) drawFigures();
  }, 5000);
  let wide = innerWidth;
  addEventListener("resize", () => { if (view === "training" && innerWidth !== wide) refreshSoon(true); wide = innerWidth; }); /* the plot is drawn in its real size */
  setInterval(() => { if ((view === "workers" || (view === "shards" && feeding)) && !document.hidden && !live.down) refreshSoon(); }, 2000);
  listenForEver();
});
