// FCIS's inside and outside maps: drag a RoI over a picture, see the scores that its cells assemble.
//
// The arithmetic is that of mrcnn_edu/related/position_sensitive.py: pure functions, tested against it.

import {
  clamp, controls, draggable, extent, floats, grey, html, mount, number, picture, put, select, set,
  svg, watch,
} from "./_core.js";

const BINS = 21;

/** Each bin's first pixel, and the one after its last, on one axis: [first, last][p]. */
export function binEdges(low, high, scale, bins, length) {
  const f = Math.fround; // the library works in float32
  const start = f(Math.floor(low + 0.5) * scale);
  const end = f(Math.floor(high + 0.5) * scale);
  const size = f(Math.max(f(end - start), f(0.1)) / bins);
  const edge = (p) => f(f(p * size) + start);
  return Array.from({ length: bins }, (_, p) => [
    clamp(Math.floor(edge(p)), 0, length),
    clamp(Math.ceil(edge(p + 1)), 0, length),
  ]);
}

/** The assembled scores of a RoI, row by row: maps are k² times H × W, row by row. */
export function assemble(maps, cells, [height, width], box, scale, bins) {
  const rows = binEdges(box[1], box[3], scale, bins, height);
  const columns = binEdges(box[0], box[2], scale, bins, width);
  const out = [];
  for (let q = 0; q < bins; q++) {
    for (let p = 0; p < bins; p++) {
      const cell = Math.floor((q * cells) / bins) * cells + Math.floor((p * cells) / bins);
      const [[top, bottom], [left, right]] = [rows[q], columns[p]];
      let sum = 0;
      for (let i = top; i < bottom; i++) {
        for (let j = left; j < right; j++) sum += maps[(cell * height + i) * width + j];
      }
      out.push(sum / Math.max(1, (bottom - top) * (right - left)));
    }
  }
  return out;
}

/** The class score: the mean of the larger of the two at each pixel. */
export function score(inside, outside) {
  return inside.reduce((sum, v, k) => sum + Math.max(v, outside[k]), 0) / inside.length;
}

/** The mask: softmax over the two. */
export function mask(inside, outside) {
  return inside.map((v, k) => 1 / (1 + Math.exp(outside[k] - v)));
}

function render({ model, el }) {
  const root = mount(el, "inside_outside");
  const [imageHeight, imageWidth] = model.get("image_size");
  const [height, width] = model.get("size");
  const [cells, stride] = [model.get("cells"), model.get("stride")];
  const all = floats(model.get("maps"));
  const half = cells * cells * height * width;
  const parts = { inside: all.subarray(0, half), outside: all.subarray(half) };
  const limit = Math.max(...extent(all).map(Math.abs), 1e-6);
  const bar = controls(root);
  select(bar, model, "which", "show the maps of", ["inside", "outside"]);

  const stage = html("div", { style: "display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr))" }, root);
  const panel = (viewBox) => {
    const element = html("div", { style: "min-width: 0" }, stage);
    const caption = html("div", { style: "min-height: 2.8em" }, element);
    return { caption, canvas: svg("svg", { viewBox, width: "100%" }, element) };
  };
  const line = { fill: "none", stroke: "var(--mw-red)", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" };

  const photo = panel(`0 0 ${imageWidth} ${imageHeight}`);
  set(photo.caption, { text: "the picture: drag the RoI" });
  svg("image", { href: model.get("photo"), width: imageWidth, height: imageHeight }, photo.canvas);
  const grid = svg("path", line, photo.canvas);
  const body = svg("rect", { fill: "transparent" }, photo.canvas);
  const corner = svg("circle", { r: 4, fill: "var(--mw-bg)", stroke: "var(--mw-red)", "stroke-width": 2, "vector-effect": "non-scaling-stroke" }, photo.canvas);

  // The k² maps, each with the RoI's cell that reads it.
  const gap = 1;
  const [stepX, stepY] = [width + gap, height + gap];
  const atlas = panel(`0 0 ${cells * stepX - gap} ${cells * stepY - gap}`);
  const tiles = [];
  for (let c = 0; c < cells * cells; c++) {
    const place = `translate(${(c % cells) * stepX} ${Math.floor(c / cells) * stepY})`;
    const group = svg("g", { transform: place }, atlas.canvas);
    const image = svg("image", { width, height, preserveAspectRatio: "none", style: "image-rendering: pixelated" }, group);
    tiles.push({ image, cell: svg("rect", line, group) });
  }
  const results = ["inside", "outside", "mask"].map(() => {
    const one = panel(`0 0 ${BINS} ${BINS}`);
    const image = svg("image", { width: BINS, height: BINS, preserveAspectRatio: "none", style: "image-rendering: pixelated" }, one.canvas);
    return { ...one, image };
  });

  const box = () => model.get("box");
  const tidy = (numbers) => numbers.map((v) => Math.round(v));
  draggable(body, {
    label: "the RoI", step: 1, big: 8,
    at: () => [box()[0], box()[1]],
    move: (x, y) => {
      const [x1, y1, x2, y2] = box();
      const nx = clamp(x, 0, imageWidth - (x2 - x1));
      const ny = clamp(y, 0, imageHeight - (y2 - y1));
      put(model, { box: tidy([nx, ny, nx + x2 - x1, ny + y2 - y1]) });
    },
  });
  draggable(corner, {
    label: "lower right corner", step: 1, big: 8,
    at: () => [box()[2], box()[3]],
    move: (x, y) => {
      const [x1, y1] = box();
      put(model, { box: tidy([x1, y1, clamp(x, x1 + 8, imageWidth), clamp(y, y1 + 8, imageHeight)]) });
    },
  });

  return watch(model, ["box", "which"], () => {
    const [x1, y1, x2, y2] = box();
    const which = model.get("which");
    let d = `M${x1} ${y1}H${x2}V${y2}H${x1}Z`;
    for (let k = 1; k < cells; k++) {
      d += `M${x1 + ((x2 - x1) * k) / cells} ${y1}V${y2}M${x1} ${y1 + ((y2 - y1) * k) / cells}H${x2}`;
    }
    set(grid, { d });
    set(body, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    set(corner, { cx: x2, cy: y2 });
    tiles.forEach(({ image, cell }, c) => {
      const one = parts[which].subarray(c * height * width, (c + 1) * height * width);
      set(image, { href: picture(one, height, width, { range: [-limit, limit], colours: grey }) });
      const [w, h] = [(x2 - x1) / cells / stride, (y2 - y1) / cells / stride];
      set(cell, { x: x1 / stride + (c % cells) * w, y: y1 / stride + Math.floor(c / cells) * h, width: w, height: h });
    });
    set(atlas.caption, { text: `${cells * cells} ${which} maps; each is read in one cell` });
    const [inside, outside] = ["inside", "outside"].map((name) =>
      assemble(parts[name], cells, [height, width], box(), 1 / stride, BINS));
    const total = score(inside, outside);
    const shown = [
      [inside, [-limit, limit], "inside, assembled"],
      [outside, [-limit, limit], "outside, assembled"],
      [mask(inside, outside), [0, 1], `the mask; class score ${number(total)}`],
    ];
    shown.forEach(([values, range, text], k) => {
      set(results[k].image, { href: picture(values, BINS, BINS, { range, colours: grey }) });
      set(results[k].caption, { text });
    });
    root.dataset.state = `${box().join(",")} ${which} ${number(total)}`;
  });
}

export default { render };
