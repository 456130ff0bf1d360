/* What a person would try on the dashboard, in Chromium. Started by tests/browser/run.sh, which made the services. */
"use strict";
const { chromium } = require("playwright-core");
const fs = require("fs");
const { WORK, PORT, OUT, CHROMIUM, ILL } = process.env;
const port = Number(PORT), base = `http://127.0.0.1:${port}`;
let passed = 0, failed = 0;

function check(good, what) {
  if (good) passed++;
  else { failed++; console.log("FAIL: " + what); }
}
const same = (a, b, what) => check(JSON.stringify(a) === JSON.stringify(b), `${what}: ${JSON.stringify(a)} is not ${JSON.stringify(b)}`);
const api = async (path, at = base, headers = {}) => (await fetch(at + path, { headers })).json();
async function until(fn, what, seconds = 30) {
  for (let i = 0; i < seconds * 10; i++) {
    try { if (await fn()) { passed++; return true; } } catch { /* not yet */ }
    await new Promise((r) => setTimeout(r, 100));
  }
  check(false, "in " + seconds + " s not: " + what);
  return false;
}

const views = ["overview", "dropped", "sources", "failures", "workers", "shards", "training", "history"];
const trouble = [], strangers = [];

function listen(page, at) {
  page.on("console", (m) => { if (["error", "warning"].includes(m.type())) trouble.push(m.text() + " @" + m.location().url); });
  page.on("pageerror", (e) => trouble.push(String(e)));
  page.on("request", (r) => { if (!r.url().startsWith(at + "/") && !r.url().startsWith("blob:" + at)) strangers.push(r.url()); });
}

async function open(page, name) {
  await page.click("#tab-" + name);
  await page.waitForFunction((n) => document.body.dataset.shown === n, name);
}

/* Text against what lies behind it, for every piece of text that can be seen: 4.5, or 3 when it is large (WCAG 2.2, 1.4.3). */
const contrasts = () => {
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
  const lum = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const over = (top, a, under) => top.map((v, i) => v * a + under[i] * (1 - a));
  const ground = (e) => {
    const stack = [];
    for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a) stack.push(c); if (c.a === 1) break; }
    return stack.reverse().reduce((under, c) => over(c.rgb, c.a, under), [255, 255, 255]);
  };
  const bad = [];
  let looked = 0;
  for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();) {
    const e = walker.currentNode.parentElement, s = getComputedStyle(e);
    if (!walker.currentNode.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest(".hidden, .skip, noscript, option, :disabled")) continue;
    const back = ground(e), svg = e instanceof SVGElement, c = parse(svg ? s.fill : s.color), front = over(c.rgb, c.a, back);
    const [x, y] = [lum(front), lum(back)].sort((a, b) => b - a), ratio = (x + 0.05) / (y + 0.05);
    const large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.66 && Number(s.fontWeight) >= 700);
    looked++;
    if (ratio < (large ? 3 : 4.5)) bad.push(ratio.toFixed(2) + " " + walker.currentNode.data.slice(0, 40));
  }
  return { bad, looked };
};

/* What a screen reader needs: names, one h1, headings in order, unique ids, relations that lead somewhere, headings of tables. */
const structure = () => {
  const bad = [], name = (e) => e.getAttribute("aria-label") || [...(e.labels || [])].map((l) => l.textContent).join("") || e.textContent.trim() || e.title ||
    (e.getAttribute("aria-labelledby") || "").split(" ").map((i) => document.getElementById(i)?.textContent || "").join("");
  for (const e of document.querySelectorAll('button, input, select, a, [role="region"], [role="tab"], [role="tabpanel"], [role="img"], dialog, [role="progressbar"]')) if (!name(e)) bad.push("no name: " + e.outerHTML.slice(0, 80));
  for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) bad.push("no alt: " + e.outerHTML);
  if (document.querySelectorAll("h1").length !== 1) bad.push("not one h1");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) bad.push("an id stands twice");
  for (const a of ["aria-controls", "aria-labelledby"]) for (const e of document.querySelectorAll(`[${a}]`)) if (!document.getElementById(e.getAttribute(a))) bad.push(a + " leads nowhere: " + e.id);
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4")) { if (h.closest("dialog, [hidden]")) continue; const l = Number(h.tagName[1]); if (l > level + 1) bad.push("heading skipped before: " + h.textContent); level = l; }
  for (const t of document.querySelectorAll("table")) if (![...t.querySelectorAll("th")].every((h) => h.scope)) bad.push("a th without scope");
  for (const e of document.querySelectorAll("button, select, input, a")) {
    const r = e.getBoundingClientRect();
    if (r.width && (r.height < 16 || r.width < 16)) bad.push("too small to hit: " + name(e));
  }
  return bad;
};

async function overview(page) {
  await until(async () => (await page.textContent("#state")) === "idle" && (await api("/api/v1/training")).finished, "the service is idle and the model trained", 90);
  await until(async () => (await page.$$("#funnel tr.lead")).length >= 10, "the funnel is drawn");
  /* Files that came while others settled make a second pass: until the page shows what the service says. */
  let stages, shown;
  const dropped = (s) => Object.values(s.dropped).reduce((a, b) => a + b, 0);
  await until(async () => {
    stages = (await api("/api/v1/stages")).stages;
    shown = await page.$$eval("#funnel tr.lead", (rows) => rows.map((r) => [r.dataset.stage, ...["in", "dropped", "out"].map((k) => Number(r.querySelector(`[data-${k}]`).dataset[k]))]));
    return JSON.stringify(shown) === JSON.stringify(stages.map((s) => [s.stage, s.documents_in, dropped(s), s.documents_out])) && shown.every((s, i) => !i || s[1] === shown[i - 1][3]);
  }, "the funnel shows what the service says", 60);
  check(shown.every(([, a, d, b]) => a === b + d), "in = out + dropped on the page");
  same(shown.slice(1).every((s, i) => s[1] === shown[i][3]), true, "each stage begins with what the one before left");
  const text = await page.$$eval("#funnel tr.lead td[data-in]", (l) => l.map((e) => e.textContent));
  same(text, stages.map((s) => s.documents_in.toLocaleString("en-US")), "numbers as shown");
  check((await page.textContent("#funnel-check")).startsWith("In = out + dropped, exactly"), "the check line");
  check(stages.some((s) => s.dropped.quarantined === 1), "a document is in quarantine");
  check((await page.$$eval("#funnel .bar .dropped", (l) => l.some((e) => e.getBoundingClientRect().width > 0))), "a bar shows drops");
  await page.click("#reasons");
  same((await page.$$("#funnel tr.reason")).length, 0, "reasons are hidden");
  await page.click("#reasons");
}

async function samples(page) {
  await page.click("#funnel tr.reason button >> nth=0");
  await page.waitForFunction(() => document.body.dataset.shown === "dropped" && document.querySelectorAll("#samples .sample").length > 0);
  const all = (await api("/api/v1/samples?limit=50")).samples, reasons = [...new Set(all.map((s) => s.reason))];
  check(reasons.length >= 2, "several reasons to choose from");
  for (const reason of reasons) {
    await page.selectOption("#reason", reason);
    const want = (await api("/api/v1/samples?limit=50&reason=" + reason)).samples.length;
    await until(async () => { const l = await page.$$eval("#samples .sample .tag", (t) => t.map((e) => e.textContent)); return l.length === want && l.every((x) => x === reason); }, "only samples of " + reason, 10);
  }
  await page.selectOption("#reason", "");
  await until(async () => (await page.$$("#samples .sample")).length === all.length, "all samples again", 10);
  const texts = await page.$$eval("#samples pre", (l) => l.map((e) => e.textContent)), page_text = await page.textContent("#samples");
  for (const s of all) if (s.text && !/[\u0000-\u001f\u202e]/.test(s.text)) check(texts.includes(s.text), "a document's text is shown as it is: " + s.text.slice(0, 40));
  check(texts.some((t) => t.includes("window.pwned=4 U+202Egnp.exe NUL & &lt;b&gt;")), "what can't be seen is made visible");
  check(all.some((s) => (s.text || "").includes("<script>window.pwned=1</script>")), "the corpus has hostile text");
  check(page_text.includes('https://e.example/"><script>window.pwned=3</script>'), "a hostile address is shown as text");
  same(await page.$$eval("main script, main img, main a[href^=javascript]", (l) => l.length), 0, "nothing of a document became an element");
  check(/value/.test(page_text) && /limit/.test(page_text), "rule, value and limit are shown");
}

async function rest(page) {
  await open(page, "sources");
  const roots = await page.textContent("#roots");
  check(roots.includes(WORK + "/in") && roots.includes("up to date"), "sources");
  check((await page.textContent("#languages")).includes("English"), "languages");
  await until(async () => {
    if ((await page.textContent("#files")).includes("<img src=x onerror=window.pwned=6>.txt")) return true;
    await page.click("#files .more button", { timeout: 1000 });
  }, "a hostile file name is shown as text", 10);
  await open(page, "failures");
  await until(async () => (await page.textContent("#quarantine")).includes("kills <b>its<b> worker.txt"), "quarantine", 10);
  await open(page, "workers");
  await until(async () => /worker 1/.test(await page.textContent("#processes")) && /broker/.test(await page.textContent("#processes")), "processes", 10);
  const w = await api("/api/v1/workers");
  check(w.broker.rss_bytes > 1e6 && w.workers.some((x) => x.pid > 0 && x.rss_bytes > 1e6 && x.units > 0), "memory of processes");
  await open(page, "shards");
  const m = await api("/api/v1/shards");
  await until(async () => (await page.textContent("#manifest")).includes(m.manifest.hash), "the manifest's hash", 10);
  same(await page.$$eval("#shard-list tbody tr", (l) => l.length), m.shards.length, "shards listed");
  await page.selectOption("#kind", "docs");
  await until(async () => (await page.$$eval("#artifacts tbody tr", (l) => l.length > 0 && l.every((r) => r.textContent.includes("docs-")))), "artifacts of a kind", 10);
  await open(page, "training");
  await page.waitForSelector("#loss svg path.loss");
  check((await page.textContent("#loss-sum")).includes("120"), "steps of the training run");
  await open(page, "history");
  await until(async () => (await page.$$("#runs tbody tr")).length > 0 && (await page.$$("#events tbody tr")).length > 0, "runs and events", 10);
}

async function keyboard(page) {
  await page.goto(base + "/");
  await page.waitForSelector("#funnel tr.lead");
  await page.keyboard.press("Tab");
  same(await page.evaluate(() => document.activeElement.className), "skip", "the first stop is the skip link");
  check(await page.evaluate(() => document.activeElement.getBoundingClientRect().top >= 0), "and it can be seen");
  await page.keyboard.press("Enter");
  same(await page.evaluate(() => document.activeElement.id), "main", "it leads to the data");
  await page.focus("#tab-overview");
  for (const name of views.slice(1)) {
    await page.keyboard.press("ArrowRight");
    same(await page.evaluate(() => document.activeElement.id), "tab-" + name, "arrow to " + name);
    check(await page.isVisible("#" + name), name + " is shown");
  }
  await page.keyboard.press("Home");
  same(await page.evaluate(() => document.activeElement.id), "tab-overview", "Home");
  check(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== "none"), "focus can be seen");
  /* Every stop is inside what is shown, and the funnel's reasons can be reached. */
  let reached = false;
  for (let i = 0; i < 40 && !reached; i++) {
    await page.keyboard.press("Tab");
    reached = await page.evaluate(() => document.activeElement.closest("#funnel tr.reason") !== null);
  }
  check(reached, "a reason is reached by Tab alone");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.body.dataset.shown === "dropped");
  check(await page.isVisible("#dropped"), "and opened by Enter");
}

async function looks(page, theme) {
  for (const name of views) {
    await open(page, name);
    await page.waitForTimeout(150);
    const c = await page.evaluate(contrasts);
    same(c.bad, [], `contrast, ${theme}, ${name}`);
    check(c.looked > 20, "there was text to look at");
    if (theme === "light") same(await page.evaluate(structure), [], `structure of ${name}`);
    await page.screenshot({ path: `${OUT}/${theme}-${name}.png`, fullPage: true });
  }
}

async function phone(browser) {
  const page = await (await browser.newContext({ viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true })).newPage();
  listen(page, base);
  await page.goto(base + "/");
  await page.waitForSelector("#funnel tr.lead");
  for (const name of views) {
    await open(page, name);
    await page.waitForTimeout(150);
    const wide = await page.evaluate(() => ({ page: document.scrollingElement.scrollWidth, view: innerWidth,
      out: [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && !e.closest(".scroll, .tabs, .hidden, pre") && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + "." + e.className).slice(0, 3) }));
    check(wide.page <= 360 && wide.view === 360, `${name} is ${wide.page} px wide on a phone (view ${wide.view})`);
    same(wide.out, [], name + " on a phone: beyond the edge");
    await page.screenshot({ path: `${OUT}/phone-${name}.png`, fullPage: true });
  }
  await page.context().close();
}

async function liveUpdates(page) {
  await page.goto(base + "/");
  await page.waitForSelector("#funnel tr.lead");
  const before = Number(await page.getAttribute("#funnel td[data-in]", "data-in"));
  fs.copyFileSync(WORK + "/in/site/p1.html", WORK + "/in/site/.new");
  fs.appendFileSync(WORK + "/in/site/.new", "<p>" + "Another morning by the river, and one more page than there was. ".repeat(8) + "</p>");
  fs.renameSync(WORK + "/in/site/.new", WORK + "/in/site/new.html");
  await until(async () => Number(await page.getAttribute("#funnel td[data-in]", "data-in")) === before + 1, "a new file comes into the funnel by itself", 40);
  await until(async () => (await page.textContent("#state")) === "idle", "idle again", 60);
  await page.click("#pause");
  await until(async () => (await page.textContent("#state")) === "paused" && (await page.textContent("#banners")).includes("Paused by request"), "paused by the button", 10);
  same((await api("/api/v1/status")).state, "paused", "the service says so too");
  await page.screenshot({ path: OUT + "/light-paused.png" });
  await page.click("#pause");
  await until(async () => (await page.textContent("#state")) === "idle", "resumed by the button", 20);
  await page.click("#rescan");
  await until(async () => (await page.textContent("#said")).includes("looked through"), "rescanned by the button", 10);
  fs.writeFileSync(WORK + "/stop", "");
  await until(async () => (await page.textContent("#banners")).includes("can't be reached"), "a banner when the service is gone", 20);
  await page.screenshot({ path: OUT + "/light-unreachable.png" });
  const quiet = trouble.length;
  fs.writeFileSync(WORK + "/start", "");
  await until(async () => !(await page.textContent("#banners")).includes("can't be reached") && (await page.textContent("#live")) === "live", "and it goes on when the service is back", 40);
  for (const t of trouble.splice(0)) if (!/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(t)) trouble.push(t); /* what Chromium itself notes of a dead service */
  check(trouble.length <= quiet, "nothing else went wrong meanwhile");
  await open(page, "history");
  await until(async () => /stopping/.test(await page.textContent("#events")), "events from before the restart are there", 10);
}

async function failures(browser) {
  const at = `http://127.0.0.1:${port + 1}`, page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
  listen(page, at);
  await until(async () => (await api("/api/v1/status", at)).units_given_up === 1, "a unit fails", 60);
  await page.goto(at + "/#failures");
  await until(async () => (await page.textContent("#jobs")).includes("Input/output error"), "the failure is shown with its error", 20);
  same(await page.textContent("#failure-count"), "1", "the tab counts it");
  check((await page.textContent("#jobs")).includes("ill<i>.txt"), "its name is shown as text");
  await page.screenshot({ path: OUT + "/light-failed.png" });
  await page.focus("#jobs tbody button");
  await page.keyboard.press("Enter");
  await until(async () => (await api("/api/v1/status", at)).units_given_up === 0 && (await page.textContent("#jobs")).includes("No unit has failed"), "retried by keyboard, it is well", 60);
  /* From another origin nothing can be asked for. */
  for (const headers of [{}, { "X-Dpipe-Action": "1", Origin: "http://evil.example" }, { "X-Dpipe-Action": "1", "Sec-Fetch-Site": "cross-site" }])
    same((await fetch(at + "/api/v1/pause", { method: "POST", headers })).status, 403, "a stranger's POST");
  await page.context().close();
}

async function token(browser) {
  const at = `http://127.0.0.1:${port + 2}`, page = await (await browser.newContext({ viewport: { width: 1000, height: 700 } })).newPage(), mine = [];
  page.on("pageerror", (e) => trouble.push(String(e)));
  page.on("console", (m) => { if (m.type() === "error" && !/status of 401/.test(m.text())) trouble.push(m.text()); });
  page.on("request", (r) => mine.push(r));
  same((await fetch(at + "/api/v1/status")).status, 401, "without a token");
  same((await fetch(at + "/")).status, 200, "the page itself has no data");
  await page.goto(at + "/");
  await page.waitForSelector("#login[open]");
  same(await page.evaluate(() => document.activeElement.id), "token", "the token is asked for");
  await page.screenshot({ path: OUT + "/light-token.png" });
  await page.keyboard.type("wrong-horse-battery-staple");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("login").open && document.getElementById("login-error").textContent.includes("refused"));
  await page.keyboard.type("correct-horse-battery");
  await page.keyboard.press("Enter");
  await until(async () => ["idle", "working"].includes(await page.textContent("#state")), "the right one opens", 20);
  await until(async () => (await page.$$("#funnel tr.lead")).length > 0, "with data", 60);
  await page.reload();
  await until(async () => (await page.$$("#funnel tr.lead")).length > 0 && !(await page.isVisible("#login")), "a reload doesn't ask again", 20);
  check(mine.every((r) => !r.url().includes("battery")), "the token is in no address");
  same(await page.evaluate(() => [Object.keys(localStorage).length, document.cookie]), [0, ""], "and not kept beyond the tab");
  await page.click("#rescan");
  await until(async () => (await page.textContent("#said")).includes("looked through"), "an action with the token", 10);
  await page.click("#metrics-link");
  await until(async () => page.url().startsWith("blob:") && (await page.textContent("body")).includes("dpipe_ready 1"), "metrics with the token", 10);
  await page.context().close();
}

(async () => {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" }), page = await context.newPage();
  listen(page, base);
  await until(async () => (await fetch(base + "/readyz")).ok, "the service is ready", 30);
  await page.goto(base + "/");
  await overview(page);
  await samples(page);
  await rest(page);
  await keyboard(page);
  await looks(page, "light");
  await page.emulateMedia({ colorScheme: "dark" });
  const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await looks(page, "dark");
  await page.emulateMedia({ colorScheme: "light" });
  await page.click("#theme"); await page.click("#theme");
  same(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), light, "dark by the button as by the system");
  await page.reload();
  same(await page.textContent("#theme"), "Dark", "and kept");
  await page.click("#theme");
  await phone(browser);
  if (ILL === "1") await failures(browser);
  await token(browser);
  await liveUpdates(page);
  same(await page.evaluate(() => window.pwned), undefined, "no document ran anything");
  same(trouble, [], "console");
  same(strangers, [], "requests to others");
  const plain = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 1000, height: 600 } }), mute = await plain.newPage();
  await mute.goto(base + "/");
  check((await mute.$$("noscript a")).length > 8 || (await mute.content()).includes("/api/v1/stages"), "without JavaScript there are links to the data");
  await mute.screenshot({ path: OUT + "/light-noscript.png" });
  await browser.close();
})().catch((e) => check(false, e.stack)).finally(() => {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
});
