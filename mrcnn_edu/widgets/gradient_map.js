// Where a gradient arrives: RoIAlign's and RoIPool's backward on one feature map, 4 × 4 bins.
//
// The arithmetic is that of mrcnn_edu/roi: pure functions, tested against the library's autograd.

import {
  clamp, controls, draggable, floats, grey, html, mount, number, picture, put, select, set, svg,
  watch,
} from "./_core.js";

const BINS = 4;

/** Wy or Wx of RoIAlign with aligned=True: for each bin, the weight of each pixel of the axis. */
export function axisWeights(low, high, scale, bins, samples, length) {
  const start = low * scale - 0.5;
  const size = ((high - low) * scale) / bins;
  return Array.from({ length: bins }, (_, p) => {
    const row = new Array(length).fill(0);
    for (let s = 0; s < samples; s++) {
      const place = start + p * size + ((s + 0.5) * size) / samples;
      if (!(place >= -1 && place <= length)) continue;
      const at = clamp(place, 0, length - 1);
      const pixel = Math.floor(at);
      row[pixel] += (1 - (at - pixel)) / samples;
      row[Math.min(pixel + 1, length - 1)] += (at - pixel) / samples;
    }
    return row;
  });
}

/** What RoIAlign sends to the map, row by row, for a gradient of 1 in `bin` (−1: in every bin). */
export function alignGradient(box, bins, [height, width], scale, samples, bin) {
  const wy = axisWeights(box[1], box[3], scale, bins, samples, height);
  const wx = axisWeights(box[0], box[2], scale, bins, samples, width);
  const chosen = (rows, k, length) =>
    bin < 0 ? Array.from({ length }, (_, i) => rows.reduce((sum, row) => sum + row[i], 0)) : rows[k];
  const y = chosen(wy, Math.floor(bin / bins), height);
  const x = chosen(wx, bin % bins, width);
  return y.flatMap((a) => x.map((b) => a * b)); // W = Wy ⊗ Wx
}

/** C's round: to the nearest integer, halves away from zero. */
export function roundHalfAway(value) {
  return Math.sign(value) * Math.floor(Math.abs(value) + 0.5) + 0;
}

/** What RoIPool sends to the map: all of a bin's gradient to its first largest pixel. */
export function poolGradient(values, box, bins, [height, width], scale, bin) {
  const [x1, y1, x2, y2] = box.map((v) => roundHalfAway(v * scale));
  const [h, w] = [Math.max(y2 - y1 + 1, 1), Math.max(x2 - x1 + 1, 1)];
  const cut = (start, side, k, limit) => [
    clamp(start + Math.floor((k * side) / bins), 0, limit),
    clamp(start + Math.ceil(((k + 1) * side) / bins), 0, limit),
  ];
  const out = new Array(height * width).fill(0);
  for (let k = 0; k < bins * bins; k++) {
    if (bin >= 0 && bin !== k) continue;
    const [top, bottom] = cut(y1, h, Math.floor(k / bins), height);
    const [left, right] = cut(x1, w, k % bins, width);
    let best = -1;
    for (let i = top; i < bottom; i++) {
      for (let j = left; j < right; j++) {
        if (best < 0 || values[i * width + j] > values[best]) best = i * width + j;
      }
    }
    if (best >= 0) out[best] += 1;
  }
  return out;
}

function describe(name, gradient) {
  const reached = gradient.filter((v) => v > 0);
  const sum = reached.reduce((a, b) => a + b, 0);
  return `${name}: ${reached.length} pixels receive, ${number(sum, 1)} in all, at most ${number(Math.max(0, ...reached))}`;
}

function render({ model, el }) {
  const root = mount(el, "gradient_map");
  const size = model.get("size");
  const [height, width] = size;
  const stride = model.get("stride");
  const values = floats(model.get("features"));
  const bar = controls(root);
  const bins = Array.from({ length: BINS * BINS }, (_, k) => [k, `bin (${Math.floor(k / BINS)}, ${k % BINS})`]);
  select(bar, model, "bin", "a gradient of 1 in", [[-1, "every bin"], ...bins]);
  select(bar, model, "samples", "samples a bin", [1, 2, 3, 4].map((n) => [n, `${n} × ${n}`]));

  const stage = html("div", { style: "display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr))" }, root);
  const panels = ["the map, and the box", "", ""].map((text) => {
    const panel = html("div", { style: "min-width: 0" }, stage);
    const caption = html("div", { text, style: "min-height: 2.8em" }, panel);
    const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%" }, panel);
    const image = svg("image", { width, height, preserveAspectRatio: "none" }, canvas);
    const lines = svg("path", {
      fill: "none", stroke: "var(--mw-red)", "stroke-width": 2, "vector-effect": "non-scaling-stroke",
    }, canvas);
    return { caption, canvas, image, lines };
  });
  set(panels[0].image, { href: picture(values, height, width, { colours: grey }) });
  const handle = { fill: "transparent", stroke: "none", "vector-effect": "non-scaling-stroke" };
  const body = svg("rect", handle, panels[0].canvas);
  const corner = svg("circle", {
    r: 0.55, fill: "var(--mw-bg)", stroke: "var(--mw-red)", "stroke-width": 2,
    "vector-effect": "non-scaling-stroke",
  }, panels[0].canvas);

  const box = () => model.get("box");
  const tidy = (numbers) => numbers.map((v) => Math.round(v * 10) / 10);
  draggable(body, {
    label: "the box", step: 1 / stride, big: 1,
    at: () => [box()[0] / stride, box()[1] / stride],
    move: (x, y) => {
      const [x1, y1, x2, y2] = box();
      const nx = clamp(x * stride, 0, width * stride - (x2 - x1));
      const ny = clamp(y * stride, 0, height * stride - (y2 - y1));
      put(model, { box: tidy([nx, ny, nx + x2 - x1, ny + y2 - y1]) });
    },
  });
  draggable(corner, {
    label: "lower right corner", step: 1 / stride, big: 1,
    at: () => [box()[2] / stride, box()[3] / stride],
    move: (x, y) => {
      const [x1, y1] = box();
      const to = [clamp(x * stride, x1 + stride, width * stride), clamp(y * stride, y1 + stride, height * stride)];
      put(model, { box: tidy([x1, y1, ...to]) });
    },
  });

  return watch(model, ["box", "bin", "samples"], () => {
    const [x1, y1, x2, y2] = box().map((v) => v / stride);
    const [bin, samples] = [model.get("bin"), model.get("samples")];
    const gradients = [
      alignGradient(box(), BINS, size, 1 / stride, samples, bin),
      poolGradient(values, box(), BINS, size, 1 / stride, bin),
    ];
    let d = `M${x1} ${y1}H${x2}V${y2}H${x1}Z`;
    for (const { lines } of panels.slice(1)) set(lines, { d });
    for (let k = 1; k < BINS; k++) {
      d += `M${x1 + ((x2 - x1) * k) / BINS} ${y1}V${y2}M${x1} ${y1 + ((y2 - y1) * k) / BINS}H${x2}`;
    }
    set(panels[0].lines, { d });
    ["RoIAlign", "RoIPool"].forEach((name, k) => {
      const range = [0, Math.max(...gradients[k], 1e-9)];
      set(panels[k + 1].image, { href: picture(gradients[k], height, width, { range }) });
      set(panels[k + 1].caption, { text: describe(name, gradients[k]) });
    });
    set(body, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    set(corner, { cx: x2, cy: y2 });
    root.dataset.state = `${box().join(",")} ${bin} ${samples}`;
  });
}

export default { render };
