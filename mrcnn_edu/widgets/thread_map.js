import { clamp, controls, draggable, html, mount, put, select, set, svg, watch } from "./_core.js";

const BINS = 16; // 4 × 4
const CHANNELS = 64;
const PIXELS = 12 * 16;
const WARP = 32; // threads
const SECTOR = 8; // float32 numbers: 32 bytes
const ACROSS = 64; // sectors a row of the picture of memory
const CELL = 10;

/** How many warps the outputs take; x runs over "channels" or "bins". */
export function warps(over) {
  const [fast, slow] = over === "channels" ? [CHANNELS, BINS] : [BINS, CHANNELS];
  return slow * Math.ceil(fast / WARP);
}

/** [bin, channel] of each thread of a warp that has an output. */
export function outputs(warp, over) {
  const fast = over === "channels" ? CHANNELS : BINS;
  const each = Math.ceil(fast / WARP);
  const slow = Math.floor(warp / each);
  const first = (warp % each) * WARP;
  const found = [];
  for (let x = first; x < Math.min(first + WARP, fast); x++) {
    found.push(over === "channels" ? [slow, x] : [x, slow]);
  }
  return found;
}

/** [sector, numbers used] of each sector that one read of these threads fetches, in order. */
export function sectors(of, pixels, layout) {
  const last = layout === "channels last";
  const numbers = new Set(of.map(([b, c]) => (last ? pixels[b] * CHANNELS + c : c * PIXELS + pixels[b])));
  const counts = new Map();
  for (const n of numbers) {
    const sector = Math.floor(n / SECTOR);
    counts.set(sector, (counts.get(sector) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => a[0] - b[0]);
}

/** The warp at column x, row y of the outputs, counted in warps. */
export function warpAt(x, y, over) {
  const each = over === "channels" ? CHANNELS / WARP : 1;
  const column = clamp(Math.floor(x), 0, (over === "channels" ? each : CHANNELS) - 1);
  const row = clamp(Math.floor(y), 0, (over === "channels" ? BINS : 1) - 1);
  return over === "channels" ? row * each + column : column;
}

function grid(canvas, columns, rows) {
  svg("rect", { width: columns * CELL, height: rows * CELL, fill: "var(--mw-panel)" }, canvas);
  let path = "";
  for (let x = 0; x <= columns; x++) path += `M${x * CELL} 0V${rows * CELL}`;
  for (let y = 0; y <= rows; y++) path += `M0 ${y * CELL}H${columns * CELL}`;
  svg("path", { d: path, stroke: "var(--mw-line)", "stroke-width": 0.6, fill: "none" }, canvas);
}

function cells(group, places, fill) {
  group.replaceChildren();
  for (const [x, y, strength] of places) {
    const box = { x: x * CELL + 0.5, y: y * CELL + 0.5, width: CELL - 1, height: CELL - 1 };
    svg("rect", { ...box, fill, "fill-opacity": strength }, group);
  }
}

function render({ model, el }) {
  const root = mount(el, "thread_map");
  const bar = controls(root);
  select(bar, model, "layout_", "map", ["channels last", "channels first"]);
  select(bar, model, "over", "x runs over", ["channels", "bins"]);
  const taps = ["upper left", "upper right", "lower left", "lower right"];
  select(bar, model, "tap", "pixel of the sample", taps.map((text, k) => [k, text]));

  const above = html("div", {}, root);
  const top = svg("svg", { viewBox: `-2 -2 ${CHANNELS * CELL + 4} ${BINS * CELL + 4}` }, root);
  grid(top, CHANNELS, BINS);
  const mine = svg("g", {}, top);
  const frame = svg("g", {}, top); // its units are warps, so one arrow key is one warp
  const warp = svg("rect", {
    fill: "transparent", stroke: "var(--mw-red)", "stroke-width": 3,
    "vector-effect": "non-scaling-stroke",
  }, frame);
  const below = html("div", { style: "margin-top: 10px" }, root);
  const rows = (PIXELS * CHANNELS) / SECTOR / ACROSS;
  const bottom = svg("svg", { viewBox: `-2 -2 ${ACROSS * CELL + 4} ${rows * CELL + 4}` }, root);
  grid(bottom, ACROSS, rows);
  const fetched = svg("g", {}, bottom);
  const verdict = html("div", { "aria-live": "polite", style: "margin-top: 8px; min-height: 2.8em" }, root);

  const place = () => {
    const now = clamp(model.get("warp"), 0, warps(model.get("over")) - 1);
    return model.get("over") === "channels" ? [now % 2, Math.floor(now / 2)] : [now, 0];
  };
  draggable(warp, {
    label: "the warp",
    at: () => place().map((v) => v + 0.5),
    move: (x, y) => put(model, { warp: warpAt(x, y, model.get("over")) }),
  });

  return watch(model, ["warp", "layout_", "over", "tap"], () => {
    const over = model.get("over");
    const now = clamp(model.get("warp"), 0, warps(over) - 1);
    const threads = outputs(now, over);
    cells(mine, threads.map(([b, c]) => [c, b, 1]), "var(--mw-blue)");
    const [x, y] = place();
    const long = over === "channels";
    set(frame, { transform: `scale(${long ? WARP * CELL : CELL} ${long ? CELL : BINS * CELL})` });
    set(warp, { x, y, width: 1, height: 1 });
    const touched = sectors(threads, model.get("pixels")[model.get("tap")], model.get("layout_"));
    const used = touched.reduce((sum, [, n]) => sum + n, 0);
    const percent = Number(((100 * used) / (SECTOR * touched.length)).toFixed(1));
    const good = percent === 100;
    cells(
      fetched,
      touched.map(([s]) => [s % ACROSS, Math.floor(s / ACROSS), 1]),
      good ? "var(--mw-green)" : "var(--mw-orange)",
    );
    const [first, last] = [threads[0], threads[threads.length - 1]];
    const bin = (b) => `(${Math.floor(b / 4)}, ${b % 4})`;
    set(above, {
      text: long
        ? `Outputs, 16 bins × 64 channels. Warp ${now}: bin ${bin(first[0])}, channels ${first[1]} to ${last[1]}.`
        : `Outputs, 16 bins × 64 channels. Warp ${now}: channel ${first[1]}, bins ${bin(first[0])} to ${bin(last[0])}.`,
    });
    set(below, { text: `The map in memory, ${model.get("layout_")}: one cell is a sector of 32 bytes.` });
    const idle = threads.length < WARP ? ` (${WARP - threads.length} have no output)` : "";
    set(verdict, {
      text: `One read: ${threads.length} threads${idle} × 4 bytes = ${4 * threads.length} bytes wanted; ` +
        `${touched.length} sectors × 32 bytes = ${32 * touched.length} bytes fetched; ${percent} % of them used.`,
    });
    root.dataset.state = `${model.get("layout_")}|${over}|${model.get("tap")}|${now}|${touched.length}`;
  });
}

export default { render };
