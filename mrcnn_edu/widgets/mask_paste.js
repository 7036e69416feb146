// A mask cut to M × M cells and pasted back: what is lost, at which size, by which rule.
//
// The first half is the arithmetic of mrcnn_edu/kernels/masks.py, pure functions that are tested
// against it. Truncation decides which pixels are touched, so the places where the library computes
// in float32 do so here (`f`); values may differ from it by about 1e-6.

import {
  checkbox, clamp, controls, draggable, floats, html, mount, number, onResize, put, select, set,
  slider, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

const f = Math.fround;

/** One axis of a cut: for each cell the weights [pixel, weight] of ⌈cell side⌉ samples. */
export function cutAxis(low, high, cells, size) {
  const start = f(f(low) - 0.5);
  const side = f(f(f(high) - 0.5 - start) / cells);
  const samples = Math.ceil(side);
  const rows = [];
  for (let p = 0; p < cells; p++) {
    const weights = [];
    for (let s = 0; s < samples; s++) {
      const place = f(f(start + f(p * side)) + f(((s + 0.5) * side) / samples));
      if (!(place >= -1 && place <= size)) continue;
      const at = clamp(place, 0, size - 1);
      const first = Math.floor(at);
      const part = at - first;
      weights.push([first, (1 - part) / samples]);
      if (part > 0) weights.push([first + 1, part / samples]);
    }
    rows.push(weights);
  }
  return rows;
}

/** The part of a bitmap in a box as cells × cells shares from 0 to 1, row by row. */
export function cut(bitmap, [height, width], box, cells) {
  const rows = cutAxis(box[1], box[3], cells, height);
  const columns = cutAxis(box[0], box[2], cells, width);
  const out = [];
  for (const row of rows) {
    for (const column of columns) {
      let sum = 0;
      for (const [i, a] of row) for (const [j, b] of column) sum += a * b * bitmap[i * width + j];
      out.push(sum);
    }
  }
  return out;
}

/**
 * One axis of pasting: for each pixel that is touched [pixel, cell, part].
 *
 * The pixel takes (1 − part) of padded cell `cell` and `part` of the next one; the padded mask has
 * a cell of 0 at each end.
 */
export function pasteAxis(low, high, cells, size, dialect) {
  [low, high] = [f(low), f(high)];
  const found = [];
  if (dialect === "torchvision") {
    const middle = f(f(high + low) * 0.5);
    const reach = f(f(f(high - low) * 0.5) * f((cells + 2) / cells));
    const start = Math.trunc(f(middle - reach));
    const stop = Math.trunc(f(middle + reach)) + 1;
    const scale = f((cells + 2) / Math.max(stop - start, 1));
    for (let i = Math.max(start, 0); i < Math.min(stop, size); i++) {
      const at = Math.max(f(scale * (i - start + 0.5) - 0.5), 0);
      const cell = Math.min(Math.floor(at), cells);
      found.push([i, cell, Math.min(at - cell, 1)]);
    }
    return found;
  }
  for (let i = 0; i < size; i++) {
    const at = f(f(f(f(i + 0.5 - low) / f(high - low)) * cells) + 0.5);
    if (at > 0 && at < cells + 1) found.push([i, Math.floor(at), at - Math.floor(at)]);
  }
  return found;
}

/** Probabilities of a whole image of height × width with a mask of cells × cells over a box. */
export function paste(mask, cells, box, [height, width], dialect) {
  const padded = (k, l) =>
    k < 1 || l < 1 || k > cells || l > cells ? 0 : mask[(k - 1) * cells + l - 1];
  const rows = pasteAxis(box[1], box[3], cells, height, dialect);
  const columns = pasteAxis(box[0], box[2], cells, width, dialect);
  const image = Array(height * width).fill(0);
  for (const [i, k, below] of rows) {
    for (const [j, l, right] of columns) {
      const top = (1 - right) * padded(k, l) + right * padded(k, l + 1);
      const bottom = (1 - right) * padded(k + 1, l) + right * padded(k + 1, l + 1);
      image[i * width + j] = (1 - below) * top + below * bottom;
    }
  }
  return image;
}

/** Pixels of a pasted mask over the threshold against the true ones. */
export function compare(image, truth, threshold) {
  const count = { both: 0, missing: 0, extra: 0 };
  image.forEach((value, k) => {
    if (value > threshold) count[truth[k] ? "both" : "extra"] += 1;
    else if (truth[k]) count.missing += 1;
  });
  const union = count.both + count.missing + count.extra;
  return { ...count, iou: union ? count.both / union : 0 };
}

// ---------------------------------------------------------------- the view

const CELLS = [7, 14, 28, 56];
const DIALECTS = [["continuous", "continuous"], ["torchvision", "torchvision"]];
const KINDS = {
  both: [[0, 158, 115, 165], "in both"],
  missing: [[0, 114, 178, 235], "true, but not pasted"],
  extra: [[213, 94, 0, 235], "pasted, but not true"],
};
const TRAITS = ["cells", "threshold", "dialect", "recut", "box"];

function render({ model, el }) {
  const root = mount(el, "mask_paste");
  const size = model.get("size");
  const truth = floats(model.get("mask"));
  const [left, top, right, bottom] = model.get("window");
  const [spanX, spanY] = [right - left, bottom - top];

  const bar = controls(root);
  select(bar, model, "cells", "cells", CELLS.map((n) => [n, `${n} × ${n}`]));
  select(bar, model, "dialect", "paste", DIALECTS);
  slider(bar, model, "threshold", "threshold", {
    min: 0.05, max: 0.95, step: 0.05, format: (v) => number(v, 2),
  });
  checkbox(bar, model, "recut", "cut where it is pasted");

  const stage = html("div", { class: "mw-paste" }, root);
  const view = svg("svg", { role: "group", "aria-label": "the image around the object" }, stage);
  const side = svg("svg", { role: "img", "aria-label": "the mask, cell by cell" }, stage);
  const legend = html("div", { class: "mw-paste-legend" }, root);
  for (const [[r, g, b], text] of Object.values(KINDS)) {
    const item = html("span", {}, legend);
    html("i", { style: `background: rgb(${r} ${g} ${b})` }, item);
    item.append(text);
  }
  const readout = html("div", { class: "mw-paste-readout", "aria-live": "polite" }, root);

  // Inside `scene` one unit is one pixel of the image.
  const scene = svg("g", {}, view);
  const clip = svg("svg", {
    x: left, y: top, width: spanX, height: spanY, viewBox: `${left} ${top} ${spanX} ${spanY}`,
    style: "overflow: hidden",
  }, scene);
  if (model.get("photograph")) {
    svg("image", {
      width: size[1], height: size[0], href: model.get("photograph"), preserveAspectRatio: "none",
    }, clip);
  } else {
    svg("rect", { x: left, y: top, width: spanX, height: spanY, fill: "#808080" }, clip);
  }
  const paint = svg("image", { width: size[1], height: size[0], preserveAspectRatio: "none" }, clip);
  const cutBox = svg("rect", { class: "mw-paste-cut" }, scene);
  const body = svg("rect", { class: "mw-paste-box" }, scene);
  const corner = svg("circle", { class: "mw-paste-corner" }, scene);
  const cellsImage = svg("image", { preserveAspectRatio: "none" }, side);
  const cellsTitle = svg("text", { y: 13, "font-size": 13 }, side);

  const box = () => model.get("box");
  const tidy = (numbers) => numbers.map((v) => Math.round(v * 10) / 10);
  draggable(body, {
    label: "box of the paste", step: 0.1, big: 1,
    at: () => box().slice(0, 2),
    move: (x, y) => {
      const [x1, y1, x2, y2] = box();
      const nx = clamp(x, left, right - (x2 - x1));
      const ny = clamp(y, top, bottom - (y2 - y1));
      put(model, { box: tidy([nx, ny, nx + x2 - x1, ny + y2 - y1]) });
    },
  });
  draggable(corner, {
    label: "bottom right corner", step: 0.1, big: 1,
    at: () => box().slice(2),
    move: (x, y) => {
      const [x1, y1] = box();
      put(model, { box: tidy([x1, y1, clamp(x, x1 + 2, right), clamp(y, y1 + 2, bottom)]) });
    },
  });

  let unit = 1; // screen pixels a pixel of the image
  let cellSide = 150;

  function layout(available) {
    const wide = available >= 560;
    unit = Math.min((wide ? available - 190 : available) / spanX, 400 / spanY);
    cellSide = wide ? 168 : Math.min(available, 168);
    set(view, {
      width: unit * spanX, height: unit * spanY,
      viewBox: `${left} ${top} ${spanX} ${spanY}`,
    });
    set(side, { width: cellSide, height: cellSide + 20, viewBox: `0 0 ${cellSide} ${cellSide + 20}` });
    draw();
  }

  function draw() {
    const [cells, threshold, dialect, recut] = TRAITS.slice(0, 4).map((name) => model.get(name));
    const cutAt = recut ? box() : model.get("cut_box");
    const mask = cut(truth, size, cutAt, cells);
    const images = Object.fromEntries(
      DIALECTS.map(([name]) => [name, paste(mask, cells, box(), size, name)]),
    );
    const found = Object.fromEntries(
      DIALECTS.map(([name]) => [name, compare(images[name], truth, threshold)]),
    );
    const apart = images.continuous.filter(
      (value, k) => value > threshold !== images.torchvision[k] > threshold,
    ).length;

    set(paint, { href: painted(images[dialect], truth, threshold, size) });
    const rect = ([x1, y1, x2, y2]) => ({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    set(body, rect(box()));
    set(cutBox, rect(cutAt));
    cutBox.style.display = recut ? "none" : "";
    set(corner, { cx: box()[2], cy: box()[3], r: 6 / unit });

    set(cellsTitle, { text: `the mask, ${cells} × ${cells}` });
    set(cellsImage, {
      y: 20, width: cellSide, height: cellSide, href: tiles(mask, cells, threshold),
    });
    const { both, missing, extra, iou } = found[dialect];
    readout.replaceChildren();
    html("p", {
      text: `${dialect}: ${both} pixels right, ${missing} missing, ${extra} too many: ` +
        `IoU ${number(iou, 3)}.`,
    }, readout);
    const other = dialect === "continuous" ? "torchvision" : "continuous";
    html("p", {
      text: `${other}: IoU ${number(found[other].iou, 3)}. ` +
        `The two rules disagree in ${apart} pixels.`,
    }, readout);
    root.dataset.state =
      `${cells} ${number(threshold, 2)} ${dialect} ${recut} ${box().join(",")} ${number(iou, 3)}`;
  }

  const stopSize = onResize(root, layout);
  const stopDrawing = watch(model, TRAITS, draw);
  return () => {
    stopSize();
    stopDrawing();
  };
}

/** A transparent picture in which every pixel of either mask has the colour of its kind. */
function painted(image, truth, threshold, [height, width]) {
  return canvasUrl(height, width, (k) => {
    const inside = image[k] > threshold;
    if (!inside && !truth[k]) return [0, 0, 0, 0];
    return KINDS[inside ? (truth[k] ? "both" : "extra") : "missing"][0];
  });
}

/** The cells in grey; those over the threshold lean to green. */
function tiles(mask, cells, threshold) {
  return canvasUrl(cells, cells, (k) => {
    const tone = Math.round(35 + 210 * mask[k]);
    return mask[k] > threshold ? [tone * 0.55, tone, tone * 0.8, 255] : [tone, tone, tone, 255];
  });
}

function canvasUrl(height, width, colour) {
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let k = 0; k < height * width; k++) image.data.set(colour(k), 4 * k);
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

export default { render };
