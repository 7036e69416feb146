import { checkbox, clamp, controls, draggable, html, mount, number, put, select, set, slider, svg, watch } from "./_core.js";

// ---------------------------------------------------------------- arithmetic

// Name: ratios, and for each map its stride and its sizes, as multiples of the smallest.
const FPN = [[4, [1]], [8, [2]], [16, [4]], [32, [8]], [64, [16]]];
export const SETS = {
  "FPN: 5 maps, 3 anchors a cell": { ratios: [0.5, 1, 2], maps: FPN },
  "FPN, squares only": { ratios: [1], maps: FPN },
  "C4: 1 map, 15 anchors a cell": { ratios: [0.5, 1, 2], maps: [[16, [1, 2, 4, 8, 16]]] },
  "Faster R-CNN: 1 map, 9 a cell": { ratios: [0.5, 1, 2], maps: [[16, [4, 8, 16]]] },
};
export const POSITIVE = 0.7;
export const NEGATIVE = 0.3;

/** The nearest whole number; a half goes to the even one, as in torch. */
export function round(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/** The anchors of one cell about (0, 0), corners rounded: ratio by ratio, size by size. */
export function cellAnchors(sizes, ratios) {
  return ratios.flatMap((ratio) =>
    sizes.map((size) => {
      const w = size / Math.sqrt(ratio);
      const h = size * Math.sqrt(ratio);
      return [-w / 2, -h / 2, w / 2, h / 2].map(round);
    }),
  );
}

/** Intersection over union of two boxes. */
export function iou(a, b) {
  const w = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const h = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]);
  return areas > w * h ? (w * h) / (areas - w * h) : 0;
}

/** Call `visit(anchor, level, k)` for all anchors of a set, in the library's order. */
function visitAnchors(name, base, width, height, visit) {
  const { ratios, maps } = SETS[name];
  maps.forEach(([stride, multiples], level) => {
    const cell = cellAnchors(multiples.map((m) => m * base), ratios);
    for (let y = 0; y < height; y += stride) {
      for (let x = 0; x < width; x += stride) {
        cell.forEach(([x1, y1, x2, y2], k) => visit([x + x1, y + y1, x + x2, y + y2], level, k));
      }
    }
  });
}

/** What the matcher says of one object: best anchor, all positives, counts. */
export function assign(box, name, base, width, height, lowQuality) {
  const found = { best: 0, index: 0, anchor: null, level: 0, k: 0, positive: 0, ignored: 0, negative: 0 };
  let positives = [];
  let tied = [];
  let index = 0;
  visitAnchors(name, base, width, height, (anchor, level, k) => {
    const value = iou(box, anchor);
    if (found.anchor === null || value > found.best) {
      Object.assign(found, { best: value, index, anchor, level, k });
      tied = [];
    }
    if (value === found.best && value > 0) tied.push(anchor);
    if (value >= POSITIVE) positives.push(anchor);
    else if (value >= NEGATIVE) found.ignored += 1;
    else found.negative += 1;
    index += 1;
  });
  if (lowQuality && found.best > 0 && found.best < POSITIVE) {
    positives = tied;
    if (found.best >= NEGATIVE) found.ignored -= tied.length;
    else found.negative -= tied.length;
  }
  found.positive = positives.length;
  return { ...found, positives };
}

/** The cell of a map that a place falls into: [column, row]. */
export function cellAt([x, y], stride, width, height) {
  const column = clamp(Math.floor(x / stride), 0, width / stride - 1);
  return [column, clamp(Math.floor(y / stride), 0, height / stride - 1)];
}

// ---------------------------------------------------------------- the page

const THIN = { "vector-effect": "non-scaling-stroke" }; // widths in the page's pixels
const QUIET = { "pointer-events": "none", fill: "none", ...THIN };

function render({ model, el }) {
  const root = mount(el, "anchors");
  const [width, height] = [model.get("width"), model.get("height")];
  const bar = controls(root);
  select(bar, model, "anchors", "anchors", Object.keys(SETS));
  slider(bar, model, "base", "smallest size", { min: 8, max: 64, step: 2, format: (v) => `${v} px` });
  checkbox(bar, model, "low_quality", "low-quality rule");
  const row = html("div", { style: "display: flex; flex-wrap: wrap; gap: 16px; align-items: start" }, root);

  const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, style: "flex: 1 1 340px; min-width: 0; max-width: 440px; overflow: hidden" }, row);
  svg("image", { href: model.get("image"), width, height, style: "image-rendering: auto" }, canvas);
  const cells = svg("g", {}, canvas);
  const positives = svg("g", {}, canvas);
  const best = svg("rect", { ...QUIET, stroke: "var(--mw-red)", "stroke-width": 3, "stroke-dasharray": "7 4" }, canvas);
  const handles = object(canvas, model, width, height);
  const point = svg("circle", { r: 0.016 * width, fill: "#fff", stroke: "#000", "stroke-width": 1.5, ...THIN }, canvas);
  draggable(point, {
    label: "the place whose anchors are shown",
    step: 4,
    big: 32,
    at: () => model.get("point"),
    move: (x, y) => put(model, { point: [clamp(x, 0, width - 1), clamp(y, 0, height - 1)] }),
  });

  const panel = html("div", { style: "flex: 1 1 230px; font-variant-numeric: tabular-nums" }, row);
  const line = (text, colour, dashed) => {
    const p = html("p", { style: "margin: 0 0 8px; display: flex; gap: 8px; align-items: baseline" }, panel);
    html("span", { style: `flex: none; width: 18px; border-top: 3px ${dashed ? "dashed" : "solid"} ${colour}; position: relative; top: -4px` }, p);
    return html("span", { text }, p);
  };
  const objectText = line("", "var(--mw-orange)");
  const bestText = line("", "var(--mw-red)", true);
  const positiveText = line("", "var(--mw-green)");
  const pointText = line("", "var(--mw-line)");
  const rest = html("p", { style: "margin: 0; color: var(--mw-muted)" }, panel);

  return watch(model, ["box", "point", "anchors", "base", "low_quality"], () => {
    const [box, name, base] = [model.get("box"), model.get("anchors"), model.get("base")];
    const { ratios, maps } = SETS[name];
    const found = assign(box, name, base, width, height, model.get("low_quality"));
    place(handles.body, box);
    handles.corners.forEach((corner, k) => set(corner, { cx: box[2 * k], cy: box[2 * k + 1] }));
    place(best, found.anchor);
    const drawn = found.positives.slice(0, 400);
    rectangles(positives, drawn, { stroke: "var(--mw-green)", "stroke-width": 1 });

    const [px, py] = model.get("point");
    set(point, { cx: px, cy: py });
    const shown = maps.flatMap(([stride, multiples]) => {
      const [column, line] = cellAt([px, py], stride, width, height);
      const [x, y] = [column * stride, line * stride];
      return cellAnchors(multiples.map((m) => m * base), ratios).map(([x1, y1, x2, y2]) => [x + x1, y + y1, x + x2, y + y2]);
    });
    rectangles(cells, shown, { stroke: "#fff", "stroke-width": 1.2 });

    const [stride, multiples] = maps[found.level];
    const ratio = ratios[Math.floor(found.k / multiples.length)];
    const size = base * multiples[found.k % multiples.length];
    const [w, h] = [box[2] - box[0], box[3] - box[1]];
    objectText.textContent = `the object: ${number(w, 0)} × ${number(h, 0)} px, h / w ${number(h / w)}`;
    bestText.textContent = `best anchor: IoU ${number(found.best, 3)}, size ${size}, ratio ${ratio}, stride ${stride}`;
    const low = found.positive > 0 && found.best < POSITIVE ? ", by the low-quality rule" : "";
    positiveText.textContent = `${found.positive} positive${low}`;
    pointText.textContent = `${shown.length} anchors at the white point`;
    const total = found.positive + found.ignored + found.negative;
    rest.textContent = `${found.ignored} ignored, ${found.negative} negative, ${total} in all`;
    root.dataset.state = `IoU ${number(found.best, 3)}, ${found.positive} positive, point ${number(px, 0)} ${number(py, 0)}`;
  });
}

/** The object: a box that can be moved, with a handle at two corners. */
function object(canvas, model, width, height) {
  const style = { fill: "var(--mw-orange)", stroke: "var(--mw-orange)", ...THIN };
  const body = svg("rect", { ...style, "fill-opacity": 0.12, "stroke-width": 3 }, canvas);
  draggable(body, {
    label: "the object",
    at: () => model.get("box").slice(0, 2),
    move: (x, y) => {
      const [x1, y1, x2, y2] = model.get("box");
      const left = clamp(Math.round(x), 0, width - (x2 - x1));
      const top = clamp(Math.round(y), 0, height - (y2 - y1));
      put(model, { box: [left, top, left + x2 - x1, top + y2 - y1] });
    },
  });
  const corners = [0, 1].map((corner) => {
    const handle = svg("circle", { ...style, r: 0.018 * width, stroke: "#fff", "stroke-width": 1.5 }, canvas);
    return draggable(handle, {
      label: `the object, ${corner ? "bottom right" : "top left"} corner`,
      at: () => model.get("box").slice(2 * corner, 2 * corner + 2),
      move: (x, y) => {
        const [x1, y1, x2, y2] = model.get("box");
        const [cx, cy] = [Math.round(x), Math.round(y)];
        const next = corner
          ? [x1, y1, clamp(cx, x1 + 8, width), clamp(cy, y1 + 8, height)]
          : [clamp(cx, 0, x2 - 8), clamp(cy, 0, y2 - 8), x2, y2];
        put(model, { box: next });
      },
    });
  });
  return { body, corners };
}

function place(rect, [x1, y1, x2, y2]) {
  set(rect, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
}

/** As many rectangles in a group as there are boxes. */
function rectangles(group, boxes, style) {
  while (group.children.length > boxes.length) group.lastChild.remove();
  while (group.children.length < boxes.length) svg("rect", { ...QUIET, ...style }, group);
  boxes.forEach((box, k) => place(group.children[k], box));
}

export default { render };
