// Two transforms of an image and its target, in both orders.
//
// The arithmetic is that of mrcnn_edu/data/transforms.py, on bitmaps: pure functions, tested equal to
// it. A sample is {size: [H, W], ids, boxes, masks, points, matrix}: of each object its number, its
// box, its bitmap row by row and its joints [x, y, seen]; the matrix [a, b, c, d, e, f] takes a place
// (x, y) of the first picture to (ax + cy + e, bx + dy + f).

import { controls, css, html, mount, number, select, set, svg, watch } from "./_core.js";

const MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15];

/** Run lengths down the columns, background first, to a bitmap row by row. */
export function decodeRuns(runs, [height, width]) {
  const mask = new Array(height * width).fill(0);
  let [place, value] = [0, 0];
  for (const run of runs) {
    for (let k = 0; k < run; k++, place++) {
      if (value) mask[(place % height) * width + Math.floor(place / height)] = 1;
    }
    value = 1 - value;
  }
  return mask;
}

/** Where a matrix takes a place. */
export function at([a, b, c, d, e, f], [x, y]) {
  return [a * x + c * y + e, b * x + d * y + f];
}

/** First `one`, then `two`, as one matrix. */
export function after(two, one) {
  const [e, f] = at(two, [one[4], one[5]]);
  return [
    two[0] * one[0] + two[2] * one[1], two[1] * one[0] + two[3] * one[1],
    two[0] * one[2] + two[2] * one[3], two[1] * one[2] + two[3] * one[3], e, f,
  ];
}

/** A bitmap of `size` whose pixel (i, j) is the old pixel from(i, j). */
function redraw(mask, oldWidth, [height, width], from) {
  const drawn = new Array(height * width);
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const [row, column] = from(i, j);
      drawn[i * width + j] = mask[row * oldWidth + column];
    }
  }
  return drawn;
}

/** A sample after a step that is a matrix for places and `from` for pixels. */
function moved(sample, size, matrix, from, renamed = false) {
  const box = ([x1, y1, x2, y2]) => {
    const [[ax, ay], [bx, by]] = [at(matrix, [x1, y1]), at(matrix, [x2, y2])];
    return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
  };
  // In float32, as the library: a joint on the border of a window is in it for both or for neither.
  const joint = ([x, y, seen]) => (seen > 0 ? [...at(matrix, [x, y]).map(Math.fround), seen] : [0, 0, seen]);
  const order = (points) => (renamed && points.length === 17 ? MIRRORED.map((k) => points[k]) : points);
  return {
    size,
    ids: sample.ids,
    boxes: sample.boxes.map(box),
    masks: sample.masks.map((mask) => redraw(mask, sample.size[1], size, from)),
    points: sample.points.map((points) => order(points).map(joint)),
    matrix: after(matrix, sample.matrix),
  };
}

/** For each of `size` pixels the old one under its centre, in float32 as PyTorch. */
function nearest(old, size) {
  const scale = Math.fround(old / size);
  return Array.from({ length: size }, (_, i) => Math.min(Math.floor(Math.fround(scale * Math.fround(i + 0.5))), old - 1));
}

/** The box around a bitmap's pixels. */
export function boxAround(mask, [height, width]) {
  let [x1, y1, x2, y2] = [width, height, 0, 0];
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      if (!mask[i * width + j]) continue;
      [x1, y1, x2, y2] = [Math.min(x1, j), Math.min(y1, i), Math.max(x2, j + 1), Math.max(y2, i + 1)];
    }
  }
  return [x1, y1, x2, y2];
}

const count = (mask) => mask.reduce((sum, value) => sum + value, 0);

function crop(sample, [top, left, most, widest]) {
  const [height, width] = [Math.min(most, sample.size[0] - top), Math.min(widest, sample.size[1] - left)];
  const before = sample.masks.map(count);
  const cut = moved(sample, [height, width], [1, 0, 0, 1, -left, -top], (i, j) => [i + top, j + left]);
  const enough = (_, k) => count(cut.masks[k]) >= Math.max(0.1 * before[k], 10);
  for (const name of ["ids", "points", "boxes"]) cut[name] = cut[name].filter(enough);
  cut.masks = cut.masks.filter(enough);
  cut.boxes = cut.masks.map((mask) => boxAround(mask, cut.size));
  const inside = ([x, y]) => x >= 0 && y >= 0 && x < width && y < height;
  cut.points = cut.points.map((points) => points.map((p) => (p[2] > 0 && inside(p) ? p : [0, 0, 0])));
  return cut;
}

/** One step by its name; `window` is [top, left, height, width], `resized` [height, width]. */
export function step(name, sample, window, resized) {
  const [height, width] = sample.size;
  switch (name) {
    case "mirror":
      return moved(sample, sample.size, [-1, 0, 0, 1, width, 0], (i, j) => [i, width - 1 - j], true);
    case "upside down":
      return moved(sample, sample.size, [1, 0, 0, -1, 0, height], (i, j) => [height - 1 - i, j], true);
    case "quarter turn":
      return moved(sample, [width, height], [0, -1, 1, 0, 0, width], (i, j) => [j, width - 1 - i]);
    case "crop":
      return crop(sample, window);
    case "resize": {
      const [rows, columns] = [nearest(height, resized[0]), nearest(width, resized[1])];
      const [sy, sx] = [resized[0] / height, resized[1] / width];
      return moved(sample, resized, [sx, 0, 0, sy, 0, 0], (i, j) => [rows[i], columns[j]]);
    }
    default:
      return sample;
  }
}

/** All steps, one after the other. */
export function through(names, sample, window, resized) {
  return names.reduce((now, name) => step(name, now, window, resized), sample);
}

/**
 * How two samples compare: [whether sizes, objects, boxes and joints are the same, mask pixels that
 * differ]. Where the places are not the same, pixels are not counted: −1.
 */
export function compare(a, b) {
  const close = (p, q) => p.length === q.length && p.every((v, k) => Math.abs(v - q[k]) < 1e-3);
  const places =
    close(a.size, b.size) &&
    close(a.ids, b.ids) &&
    a.ids.every((_, k) => close(a.boxes[k], b.boxes[k]) && close(a.points[k].flat(), b.points[k].flat()));
  if (!places) return [false, -1];
  const differ = (mask, k) => mask.reduce((sum, value, place) => sum + (value !== b.masks[k][place]), 0);
  return [true, a.masks.map(differ).reduce((x, y) => x + y, 0)];
}

// ---------------------------------------------------------------- the page

const COLOURS = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0],
  [204, 121, 167], [90, 60, 200],
];
const STEPS = ["nothing", "mirror", "upside down", "quarter turn", "crop", "resize"];
const PARTS = ["nothing", "boxes", "masks", "joints"];
const LIMBS = [[5, 7], [7, 9], [11, 13], [13, 15], [6, 8], [8, 10], [12, 14], [14, 16], [5, 6], [11, 12], [5, 11], [6, 12]];
const LEFT = "#7ad0ff"; // the figure's own left, and its right
const RIGHT = "#ffb347";
const THIN = { "vector-effect": "non-scaling-stroke" };

/** The masks as one picture, see-through where there is none. */
function tint(sample) {
  const [height, width] = sample.size;
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  sample.masks.forEach((mask, k) => {
    const paint = COLOURS[sample.ids[k] % COLOURS.length];
    mask.forEach((value, place) => {
      if (value) pixels.data.set([...paint, 125], 4 * place);
    });
  });
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

function sampleOf(model) {
  const size = model.get("size");
  const boxes = model.get("boxes");
  const joints = model.get("joints");
  return {
    size,
    ids: boxes.map((_, k) => k),
    boxes,
    masks: model.get("runs").map((runs) => decodeRuns(runs, size)),
    points: joints,
    matrix: [1, 0, 0, 1, 0, 0],
  };
}

function render({ model, el }) {
  const root = mount(el, "transforms");
  const original = sampleOf(model);
  const names = model.get("names");
  const bar = controls(root);
  select(bar, model, "first", "one step", STEPS);
  select(bar, model, "second", "another step", STEPS);
  select(bar, model, "forgotten", "the code forgets", PARTS);
  select(bar, model, "chosen", "numbers of", names.map((name, k) => [k, `${k}: ${name}`]));
  const row = html("div", { style: "display: flex; flex-wrap: wrap; gap: 14px" }, root);
  const panels = [0, 1].map(() => {
    const panel = html("div", { style: "flex: 1 1 260px; min-width: 0" }, row);
    const title = html("div", { style: "font-weight: 600; margin-bottom: 4px" }, panel);
    const canvas = svg("svg", { role: "img", style: "width: 100%" }, panel);
    const text = html("div", { style: "margin-top: 4px; color: var(--mw-muted); font-variant-numeric: tabular-nums; min-height: 2.8em" }, panel);
    return { title, canvas, text };
  });
  const verdict = html("p", { style: "margin: 10px 0 0; font-weight: 600" }, root);

  function draw(panel, title, sample, side) {
    panel.title.textContent = title;
    set(panel.canvas, { viewBox: `-1 -1 ${side + 2} ${side + 2}`, "aria-label": title });
    panel.canvas.replaceChildren();
    const [height, width] = sample.size;
    const frame = svg("svg", { x: 0, y: 0, width, height, viewBox: `0 0 ${width} ${height}`, style: "overflow: hidden" }, panel.canvas);
    svg("image", {
      href: model.get("image"), width: original.size[1], height: original.size[0], preserveAspectRatio: "none",
      transform: `matrix(${sample.matrix.join(" ")})`,
    }, frame);
    const part = (name) => (model.get("forgotten") === name ? original : sample);
    const masks = part("masks");
    svg("image", { href: tint(masks), width: masks.size[1], height: masks.size[0], preserveAspectRatio: "none" }, frame);
    const boxes = part("boxes");
    boxes.boxes.forEach(([x1, y1, x2, y2], k) => {
      const thick = boxes.ids[k] === model.get("chosen") ? 3 : 1.5;
      svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none", stroke: css(COLOURS[boxes.ids[k] % 8]), "stroke-width": thick, ...THIN }, frame);
    });
    for (const points of part("joints").points) {
      for (const [p, q] of LIMBS) {
        if (!(points[p]?.[2] > 0 && points[q]?.[2] > 0)) continue;
        const stroke = (p + q) % 2 ? "#ffffff" : p % 2 ? LEFT : RIGHT; // odd numbers are left
        svg("line", { x1: points[p][0], y1: points[p][1], x2: points[q][0], y2: points[q][1], stroke, "stroke-width": 2, ...THIN }, frame);
      }
    }
    svg("rect", { x: 0, y: 0, width, height, fill: "none", stroke: "var(--mw-line)", "stroke-width": 1, ...THIN }, panel.canvas);
    const own = boxes.ids.indexOf(model.get("chosen"));
    const box = own < 0 ? "not in the picture" : `box ${boxes.boxes[own].map((v) => number(v, 1)).join(", ")}`;
    panel.text.textContent = `${width} × ${height}, ${sample.ids.length} objects; ${names[model.get("chosen")]}: ${box}`;
  }

  return watch(model, ["first", "second", "forgotten", "chosen"], () => {
    const [one, two] = [model.get("first"), model.get("second")];
    const orders = [[one, two], [two, one]];
    const done = orders.map((order) => through(order, original, model.get("window"), model.get("resized")));
    const side = Math.max(...done.flatMap((sample) => sample.size));
    orders.forEach((order, k) => draw(panels[k], `${order[0]}, then ${order[1]}`, done[k], side));
    const [same, pixels] = compare(...done);
    const equal = pixels ? `Boxes and joints are the same in both orders; ${pixels} pixels of the masks differ.` : "The same in both orders.";
    const wrong = model.get("forgotten") === "nothing" ? "" : ` The ${model.get("forgotten")} stay where they were: this is what the model would be taught.`;
    verdict.textContent = `${same ? equal : "The two orders differ."}${wrong}`;
    root.dataset.state = `${one}, ${two}: ${same ? `same but ${pixels} pixels` : "different"}, ${done.map((s) => s.ids.length).join(" and ")} objects, forgets ${model.get("forgotten")}`;
  });
}

export default { render };
