// Opens every page of the built book in Chromium, as readers do: light and dark, wide and narrow.
// Called by tools/check_book.py, which serves the pages:
//   node check_pages.mjs PLAYWRIGHT CHROMIUM ADDRESS SCREENSHOTS PAGE ...
// Prints a line for everything that is wrong and exits with 1 if there is any.

import { createRequire } from "node:module";

const [playwright, executablePath, address, screenshots, ...pages] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);

const VIEWS = [
  { name: "light", theme: "light", width: 1280, height: 900 },
  { name: "dark", theme: "dark", width: 1280, height: 900 },
  { name: "narrow", theme: "dark", width: 400, height: 800 },
];
const wrong = new Map(); // text -> where it was seen
const links = new Map(); // address without anchor -> Map(anchor -> page that has the link)
const anchors = new Map(); // page -> Set of ids
let visits = 0;
const dragged = new Map(); // widget -> how often it followed

const complain = (page, view, text) => {
  const key = `${page}: ${text}`;
  wrong.set(key, [...(wrong.get(key) ?? []), view]);
};

// Runs in the page: whether each view of an anywidget that the page holds has a root.
function expectedRoots() {
  const state = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
  const models = state ? JSON.parse(state.textContent).state : {};
  const views = [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')];
  const expected = views.filter((v) => models[JSON.parse(v.textContent).model_id]?.model_module === "anywidget");
  return document.querySelectorAll("[data-widget]").length >= expected.length;
}

// Runs in the page: what can be seen without touching anything.
function inspect() {
  const found = [];
  for (const element of document.querySelectorAll(".math")) {
    if (!element.querySelector("mjx-container")) found.push(`maths not rendered: ${element.textContent.trim().slice(0, 60)}`);
  }
  for (const element of document.querySelectorAll("mjx-merror")) found.push(`maths has an error: ${element.textContent}`);
  // A formula that Markdown did not recognise is left as text between dollars.
  const prose = [...document.querySelectorAll("article p, article li, article td, article summary")];
  for (const element of prose) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join(" ");
    if (/\$[^$\s](?:[^$]*[^$\s])?\$(?!\d)/.test(text)) found.push(`formula left as text: ${text.trim().slice(0, 60)}`);
    if (/\]\([^)\s]+\)|```/.test(text)) found.push(`Markdown left as text: ${text.trim().slice(0, 60)}`);
  }
  for (const image of document.images) {
    if (image.loading !== "lazy" && !(image.complete && image.naturalWidth)) found.push(`picture missing: ${image.src}`);
    if (image.closest("article") && !image.alt) found.push(`picture without a text for those who cannot see it: ${image.src}`);
  }
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth + 1) {
    const wide = [...document.querySelectorAll("article *")].filter((e) => {
      if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
      for (let p = e.parentElement; p; p = p.parentElement) {
        if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(p).overflowX)) return false;
      }
      return true;
    });
    const names = wide.slice(0, 3).map((e) => `${e.tagName.toLowerCase()}.${e.getAttribute("class") ?? ""}`);
    found.push(`scrolls sideways, ${root.scrollWidth} px in ${innerWidth}: ${names.join(", ")}`);
  }
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\d.]+/g).map(Number);
    return (0.299 * r + 0.587 * g + 0.114 * b) / 255;
  };
  const style = getComputedStyle(document.body);
  const [ground, ink] = [light(style.backgroundColor), light(style.color)];
  const dark = root.dataset.theme === "dark";
  if (dark ? ground > 0.25 || ink < 0.6 : ground < 0.85 || ink > 0.4) found.push("page and text have no contrast");
  const here = [...document.querySelectorAll("a[href]")].map((a) => a.href);
  return { found, links: here, ids: [...document.querySelectorAll("[id]")].map((e) => e.id) };
}

// Drags a widget's handles until its state follows. Tests that JavaScript, state and layout meet.
async function drag(page, widget) {
  const name = await widget.getAttribute("data-widget");
  await widget.scrollIntoViewIfNeeded();
  const before = await widget.getAttribute("data-state");
  const handles = await widget.locator("[data-drag]").all();
  for (const handle of handles) {
    for (const [dx, dy] of [[24, 14], [-24, -14]]) {
      const box = await handle.boundingBox();
      if (!box) continue;
      const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
      await page.mouse.move(x, y);
      await page.mouse.down();
      await page.mouse.move(x + dx / 2, y + dy / 2);
      await page.mouse.move(x + dx, y + dy);
      await page.mouse.up();
      await page.waitForTimeout(50);
      if ((await widget.getAttribute("data-state")) !== before) {
        dragged.set(name, (dragged.get(name) ?? 0) + 1);
        return null;
      }
    }
  }
  if (!handles.length) {
    for (const list of await widget.locator("select").all()) { // a widget of choices alone
      const count = await list.locator("option").count();
      const chosen = await list.evaluate((element) => element.selectedIndex);
      await list.selectOption({ index: (chosen + 1) % count });
      await page.waitForTimeout(50);
      if ((await widget.getAttribute("data-state")) !== before) {
        dragged.set(name, (dragged.get(name) ?? 0) + 1);
        return null;
      }
    }
  }
  return handles.length ? `widget ${name} does not follow a drag` : `widget ${name} has nothing to drag or to choose`;
}

async function visit(page, path, view) {
  visits += 1;
  const problems = [];
  const listeners = {
    console: (m) => { if (m.type() === "error") problems.push(`console: ${m.text()}`); },
    pageerror: (e) => problems.push(`script: ${e.message}`),
    requestfailed: (r) => { if (r.url().startsWith(address)) problems.push(`not loaded: ${r.url()}`); },
    response: (r) => { if (r.status() >= 400) problems.push(`${r.status()}: ${r.url()}`); },
    request: (r) => {
      if (!/^(data|blob):/.test(r.url()) && !r.url().startsWith(address)) problems.push(`asks the network: ${r.url()}`);
    },
  };
  for (const [event, listener] of Object.entries(listeners)) page.on(event, listener);
  await page.goto(address + path, { waitUntil: "load" });
  await page.evaluate(() => {
    document.querySelectorAll("article details").forEach((d) => { d.open = true; });
    document.querySelectorAll("img[loading=lazy]").forEach((i) => { i.loading = "eager"; });
    const pictures = [...document.images].map((i) => i.decode().catch(() => {})); // told below
    return Promise.all([window.MathJax?.startup?.promise, ...pictures]);
  });
  await page.waitForFunction(expectedRoots, null, { timeout: 15000 }).catch(() => {}); // told below
  await page.waitForTimeout(100); // what the last script asks for
  const seen = await page.evaluate(inspect);
  problems.push(...seen.found);
  if (!(await page.evaluate(expectedRoots))) problems.push("not all widgets came alive");
  anchors.set(path, new Set(seen.ids));
  for (const link of seen.links.filter((l) => l.startsWith(address))) {
    const [target, anchor] = link.slice(address.length).split("#");
    if (!links.has(target)) links.set(target, new Map());
    links.get(target).set(decodeURIComponent(anchor ?? ""), path);
  }
  for (const widget of await page.locator("[data-widget]").all()) {
    const problem = await drag(page, widget);
    if (problem) problems.push(problem);
  }
  if (screenshots) {
    const name = path.replaceAll("/", "-").replace(/\.html$/, "");
    await page.screenshot({ path: `${screenshots}/${name}-${view.name}.png`, fullPage: true });
  }
  for (const [event, listener] of Object.entries(listeners)) page.off(event, listener);
  for (const problem of new Set(problems)) complain(path, view.name, problem);
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
for (const view of VIEWS) {
  const context = await browser.newContext({ viewport: { width: view.width, height: view.height } });
  await context.addInitScript((theme) => {
    localStorage.setItem("mode", theme);
    localStorage.setItem("theme", theme);
  }, view.theme);
  await context.route((url) => !url.href.startsWith(address), (route) => route.abort());
  context.setDefaultTimeout(120_000); // a busy machine is slow, not wrong
  const page = await context.newPage();
  for (const path of pages) {
    // The pages of the library's files are alike: one view is enough.
    const source = path.startsWith("library/") && path !== "library/index.html";
    if (!source || view.name === "narrow") await visit(page, path, view);
  }
  await context.close();
}
// Links inside the book lead to files and anchors that exist.
for (const [target, wanted] of links) {
  if (anchors.has(target)) {
    const ids = anchors.get(target);
    for (const [anchor, from] of wanted) {
      if (anchor && !ids.has(anchor)) complain(from, "links", `no such place: ${target}#${anchor}`);
    }
  } else if (!(await fetch(address + target)).ok) {
    complain([...wanted.values()][0], "links", `no such file: ${target}`);
  }
}
await browser.close();

for (const [text, views] of wrong) console.log(`${text} [${[...new Set(views)].join(", ")}]`);
const widgets = [...dragged].map(([name, times]) => `${name} ×${times}`).join(", ");
console.log(`${pages.length} pages, ${visits} views; dragged: ${widgets || "no widget"}; ${wrong.size} problems`);
process.exit(wrong.size ? 1 : 0);
