// One joint's heatmap: softmax over its cells, the best cell, and the best pixel after resizing.
//
// The first half is the arithmetic, pure functions that are tested against PyTorch and the library.

import {
  clamp, controls, draggable, floats, html, mount, number, onResize, picture, put, select, set,
  slider, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

/** Probabilities that add up to 1. */
export function softmax(values) {
  let top = -Infinity;
  for (const v of values) top = Math.max(top, v);
  const powers = Array.from(values, (v) => Math.exp(v - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((v) => v / sum);
}

/** Where the largest value is; of equal ones the first. */
export function argmax(values) {
  let best = 0;
  for (let k = 1; k < values.length; k++) if (values[k] > values[best]) best = k;
  return best;
}

/** The cubic kernel of PyTorch's bicubic interpolation (a = −¾) at a distance of t ≥ 0 cells. */
export function cubic(t) {
  const a = -0.75;
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return 0;
}

/** One axis of resizing: for each pixel four pairs [cell, weight]; cells repeat at the border. */
export function axis(cells, pixels) {
  return Array.from({ length: pixels }, (_, j) => {
    const at = ((j + 0.5) * cells) / pixels - 0.5;
    const first = Math.floor(at);
    return [-1, 0, 1, 2].map((k) => [
      clamp(first + k, 0, cells - 1), cubic(Math.abs(at - first - k)),
    ]);
  });
}

/** A map of cells × cells resized to height × width pixels, row by row. */
export function resize(map, cells, height, width) {
  const columns = axis(cells, width);
  const between = []; // cells rows of width
  for (let i = 0; i < cells; i++) {
    for (const taps of columns) {
      let sum = 0;
      for (const [j, weight] of taps) sum += weight * map[i * cells + j];
      between.push(sum);
    }
  }
  const out = [];
  for (const taps of axis(cells, height)) {
    for (let j = 0; j < width; j++) {
      let sum = 0;
      for (const [i, weight] of taps) sum += weight * between[i * width + j];
      out.push(sum);
    }
  }
  return out;
}

/** A round peak at (x, y), in cells: logits, row by row. */
export function roundPeak(cells, [x, y], spread) {
  const out = [];
  for (let i = 0; i < cells; i++) {
    for (let j = 0; j < cells; j++) {
      out.push(-((j + 0.5 - x) ** 2 + (i + 0.5 - y) ** 2) / (2 * spread * spread));
    }
  }
  return out;
}

/** How many pixels a RoI is resized to: [height, width]. */
export function pixelsOf([x1, y1, x2, y2]) {
  return [Math.ceil(Math.max(y2 - y1, 1)), Math.ceil(Math.max(x2 - x1, 1))];
}

/** Everything that becomes of a heatmap: best cell, its share, its centre, best pixel, its place. */
export function decode(map, cells, box) {
  const [x1, y1, x2, y2] = box;
  const best = argmax(map);
  const cell = [Math.floor(best / cells), best % cells];
  const centre = [
    x1 + ((cell[1] + 0.5) * (x2 - x1)) / cells, y1 + ((cell[0] + 0.5) * (y2 - y1)) / cells,
  ];
  const [height, width] = pixelsOf(box);
  const at = argmax(resize(map, cells, height, width));
  const pixel = [Math.floor(at / width), at % width];
  const place = [
    x1 + ((pixel[1] + 0.5) * Math.max(x2 - x1, 1)) / width,
    y1 + ((pixel[0] + 0.5) * Math.max(y2 - y1, 1)) / height,
  ];
  return { cell, share: softmax(map)[best], centre, pixel, place };
}

// ---------------------------------------------------------------- the view

const OWN = "a peak of my own";
const SMALLEST = 4;
const TRAITS = ["joint", "peak", "spread", "box"];

function render({ model, el }) {
  const root = mount(el, "heatmap");
  const cells = model.get("cells");
  const names = model.get("names");
  const maps = floats(model.get("logits"));
  const truth = model.get("truth");
  const [left, top, right, bottom] = model.get("window");
  const [height, width] = model.get("size");

  const bar = controls(root);
  select(bar, model, "joint", "joint", [...names, OWN]);
  slider(bar, model, "spread", "width of my own peak", {
    min: 0.2, max: 8, step: 0.1, format: (v) => `${number(v, 1)} cells`,
  });

  const stage = html("div", { class: "mw-heat" }, root);
  const view = svg("svg", { role: "group", "aria-label": "the image with the RoI" }, stage);
  const heat = svg("svg", { role: "group", "aria-label": "softmax over the cells" }, stage);
  const fine = svg("svg", { role: "img", "aria-label": "logits, resized to the RoI" }, stage);
  const legend = html("div", { class: "mw-heat-legend" }, root);
  for (const [mark, colour, text] of [
    ["○", "--mw-orange", "centre of the best cell"],
    ["+", "--mw-sky", "best pixel after resizing"],
    ["×", "--mw-muted", "annotated"],
  ]) {
    const item = html("span", {}, legend);
    html("b", { style: `color: var(${colour})`, text: mark }, item);
    item.append(text);
  }
  const readout = html("div", { class: "mw-heat-readout", "aria-live": "polite" }, root);

  const clip = svg("svg", {
    x: left, y: top, width: right - left, height: bottom - top, style: "overflow: hidden",
    viewBox: `${left} ${top} ${right - left} ${bottom - top}`,
  }, view);
  svg("image", {
    width, height, href: model.get("photograph"), preserveAspectRatio: "none",
  }, clip);
  const body = svg("rect", { class: "mw-heat-box" }, view);
  const cross = svg("path", { class: "mw-heat-truth" }, view);
  const ring = svg("circle", { class: "mw-heat-cell" }, view);
  const plus = svg("path", { class: "mw-heat-pixel" }, view);
  const corner = svg("circle", { class: "mw-heat-corner" }, view);

  const heatTitle = svg("text", { y: 13, "font-size": 13 }, heat);
  const heatScene = svg("g", {}, heat); // one unit is one cell
  const heatImage = svg("image", { width: cells, height: cells, preserveAspectRatio: "none" }, heatScene);
  const heatBest = svg("rect", { class: "mw-heat-cell", width: 1, height: 1 }, heatScene);
  const peak = svg("circle", { class: "mw-heat-peak" }, heatScene);
  const fineTitle = svg("text", { y: 13, "font-size": 13 }, fine);
  const fineScene = svg("g", {}, fine); // one unit is one pixel
  const fineImage = svg("image", { preserveAspectRatio: "none" }, fineScene);
  const fineBest = svg("rect", { class: "mw-heat-pixel", width: 1, height: 1 }, fineScene);

  const box = () => model.get("box");
  const own = () => !names.includes(model.get("joint"));
  const tidy = (values) => values.map((v) => Math.round(v * 10) / 10);

  function heatmap() {
    if (own()) return roundPeak(cells, model.get("peak"), model.get("spread"));
    const start = names.indexOf(model.get("joint")) * cells * cells;
    return maps.slice(start, start + cells * cells);
  }

  function peakAt() {
    if (own()) return model.get("peak");
    const best = argmax(heatmap());
    return [(best % cells) + 0.5, Math.floor(best / cells) + 0.5];
  }

  draggable(body, {
    label: "RoI", step: 0.5, big: 4,
    at: () => box().slice(0, 2),
    move: (x, y) => {
      const [x1, y1, x2, y2] = box();
      const nx = clamp(x, left, right - (x2 - x1));
      const ny = clamp(y, top, bottom - (y2 - y1));
      put(model, { box: tidy([nx, ny, nx + x2 - x1, ny + y2 - y1]) });
    },
  });
  draggable(corner, {
    label: "bottom right corner of the RoI", step: 0.5, big: 4,
    at: () => box().slice(2),
    move: (x, y) => {
      const [x1, y1] = box();
      put(model, {
        box: tidy([x1, y1, clamp(x, x1 + SMALLEST, right), clamp(y, y1 + SMALLEST, bottom)]),
      });
    },
  });
  draggable(peak, {
    label: "peak", step: 0.1, big: 1,
    at: peakAt,
    move: (x, y) => {
      put(model, { joint: OWN, peak: tidy([clamp(x, 0, cells), clamp(y, 0, cells)]) });
    },
  });

  let unit = 1; // screen pixels a pixel of the image
  let side = 200;

  function layout(available) {
    const wide = available >= 660;
    const room = wide ? (available - 28) / 3 : Math.min(available, 380);
    unit = Math.min(room / (right - left), (wide ? 330 : 380) / (bottom - top));
    side = wide ? room : Math.min((available - 14) / 2, 200);
    set(view, {
      width: unit * (right - left), height: unit * (bottom - top),
      viewBox: `${left} ${top} ${right - left} ${bottom - top}`,
    });
    set(heat, { width: side, height: side + 20, viewBox: `0 0 ${side} ${side + 20}` });
    set(heatScene, { transform: `translate(0 20) scale(${side / cells})` });
    draw();
  }

  function draw() {
    const map = heatmap();
    const roi = box();
    const [rows, columns] = pixelsOf(roi);
    const chances = softmax(map);
    const resized = resize(map, cells, rows, columns);
    const { cell, share, centre, pixel, place } = decode(map, cells, roi);

    const [x1, y1, x2, y2] = roi;
    const reach = 5 / unit;
    set(body, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    set(corner, { cx: x2, cy: y2, r: 6 / unit });
    set(ring, { cx: centre[0], cy: centre[1], r: reach });
    const [px, py] = place;
    set(plus, { d: `M${px - reach},${py}H${px + reach}M${px},${py - reach}V${py + reach}` });
    const at = own() ? -1 : names.indexOf(model.get("joint"));
    const known = at >= 0 && truth.length > 3 * at && truth[3 * at + 2] > 0;
    const [tx, ty] = known ? truth.slice(3 * at, 3 * at + 2) : [0, 0];
    cross.style.display = known ? "" : "none";
    set(cross, {
      d: `M${tx - reach},${ty - reach}L${tx + reach},${ty + reach}` +
        `M${tx - reach},${ty + reach}L${tx + reach},${ty - reach}`,
    });

    set(heatTitle, { text: `softmax, ${cells} × ${cells} cells` });
    set(heatImage, { href: picture(chances, cells, cells) });
    set(heatBest, { x: cell[1], y: cell[0] });
    const [u, v] = peakAt();
    set(peak, { cx: u, cy: v, r: (9 * cells) / side });

    const scale = side / Math.max(rows, columns);
    set(fine, {
      width: side, height: scale * rows + 20, viewBox: `0 0 ${side} ${scale * rows + 20}`,
    });
    set(fineTitle, { text: `logits, ${columns} × ${rows} pixels` });
    set(fineScene, { transform: `translate(0 20) scale(${scale})` });
    set(fineImage, { width: columns, height: rows, href: picture(resized, rows, columns) });
    set(fineBest, { x: pixel[1], y: pixel[0] });

    const point = ([x, y]) => `(${number(x, 2)}, ${number(y, 2)})`;
    const gap = (a, b) => number(Math.hypot(a[0] - b[0], a[1] - b[1]), 2);
    readout.replaceChildren();
    html("p", {
      text: `The best cell, row ${cell[0]} and column ${cell[1]}, holds ${number(100 * share, 1)} % ` +
        `of the probability. A cell is ${number((x2 - x1) / cells, 2)} × ` +
        `${number((y2 - y1) / cells, 2)} pixels.`,
    }, readout);
    html("p", {
      text: `Its centre lies at ${point(centre)}; the best pixel after resizing at ` +
        `${point(place)}, ${gap(centre, place)} pixels away.`,
    }, readout);
    const aim = own()
      ? [x1 + (model.get("peak")[0] * (x2 - x1)) / cells, y1 + (model.get("peak")[1] * (y2 - y1)) / cells]
      : [tx, ty];
    if (known || own()) {
      html("p", {
        text: `${own() ? "The peak is" : "Annotated"} at ${point(aim)}: the cell is off by ` +
          `${gap(aim, centre)} pixels, the pixel by ${gap(aim, place)}.`,
      }, readout);
    }
    root.dataset.state = `${model.get("joint")} ${roi.join(",")} ${tidy(peakAt()).join(",")} ` +
      `${number(model.get("spread"), 1)} ${point(place)}`;
  }

  const stopSize = onResize(root, layout);
  const stopDrawing = watch(model, TRAITS, draw);
  return () => {
    stopSize();
    stopDrawing();
  };
}

export default { render };
