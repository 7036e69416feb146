// The proposal explorer. Left the image with what is kept, right recall against the number kept.

import {
  clamp, controls, draggable, floats, html, mount, number, onResize, put, select, set,
  slider, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

/** IoU of two boxes [x1, y1, x2, y2]. */
export function iou(a, b) {
  const w = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const h = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h;
  return union > 0 ? (w * h) / union : 0;
}

/**
 * Indices of boxes that survive non-maximum suppression within their level, best first.
 * `boxes` are sorted by score; `level` keeps one level only, or all with −1.
 */
export function survivors(boxes, levels, level, threshold) {
  const kept = [];
  for (let i = 0; i < boxes.length; i++) {
    if (level >= 0 && levels[i] !== level) continue;
    const alone = kept.every((k) => levels[k] !== levels[i] || iou(boxes[k], boxes[i]) <= threshold);
    if (alone) kept.push(i);
  }
  return kept;
}

/** For each true box how many of the boxes, in this order, it takes to cover it (0: never). */
export function needed(truths, boxes, covered) {
  return truths.map((truth) => 1 + boxes.findIndex((box) => iou(truth, box) >= covered));
}

/** Share of the true boxes that the first `count` boxes cover. */
export function recall(needs, count) {
  if (!needs.length) return 0;
  return needs.filter((need) => need > 0 && need <= count).length / needs.length;
}

// ---------------------------------------------------------------- view

const COLOURS = ["blue", "red", "green", "purple", "orange"].map((name) => `var(--mw-${name})`);
const PLOT = { left: 44, right: 12, top: 12, bottom: 40, width: 320, height: 260 };
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200];

function rows(bytes) {
  const values = floats(bytes);
  return Array.from({ length: values.length / 4 }, (_, i) => Array.from(values.subarray(4 * i, 4 * i + 4)));
}

function rgbPicture(bytes, height, width) {
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d");
  const target = context.createImageData(width, height);
  const source = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let k = 0; k < height * width; k++) {
    target.data.set([source[3 * k], source[3 * k + 1], source[3 * k + 2], 255], 4 * k);
  }
  context.putImageData(target, 0, 0);
  return canvas.toDataURL();
}

/** Place on the logarithmic axis of counts, and back. */
function countToX(count) {
  const inner = PLOT.width - PLOT.left - PLOT.right;
  return PLOT.left + (inner * Math.log(count)) / Math.log(STEPS[STEPS.length - 1]);
}

function xToCount(x) {
  const inner = PLOT.width - PLOT.left - PLOT.right;
  const count = Math.exp(((x - PLOT.left) / inner) * Math.log(STEPS[STEPS.length - 1]));
  return clamp(Math.round(count), 1, STEPS[STEPS.length - 1]);
}

function recallToY(share) {
  return PLOT.height - PLOT.bottom - share * (PLOT.height - PLOT.top - PLOT.bottom);
}

function axes(plot) {
  const style = { stroke: "var(--mw-line)", "stroke-width": 1 };
  for (const count of STEPS) {
    const x = countToX(count);
    svg("line", { x1: x, x2: x, y1: recallToY(1), y2: recallToY(0), ...style }, plot);
    svg("text", { x, y: recallToY(0) + 16, "text-anchor": "middle", "font-size": 11, text: count }, plot);
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const y = recallToY(share);
    svg("line", { x1: countToX(1), x2: countToX(200), y1: y, y2: y, ...style }, plot);
    svg("text", { x: PLOT.left - 6, y: y + 4, "text-anchor": "end", "font-size": 11, text: share }, plot);
  }
  const label = { "text-anchor": "middle", "font-size": 12 };
  svg("text", { ...label, x: (countToX(1) + countToX(200)) / 2, y: PLOT.height - 6, text: "proposals kept" }, plot);
  const y = (recallToY(0) + recallToY(1)) / 2;
  svg("text", { ...label, x: 12, y, transform: `rotate(-90 12 ${y})`, text: "objects found" }, plot);
}

function render({ model, el }) {
  const root = mount(el, "proposals");
  const bar = controls(root);
  slider(bar, model, "nms", "NMS at IoU", { min: 0.05, max: 1, step: 0.05, format: (v) => number(v) });
  const levelNames = [[-1, "all levels"], ...[0, 1, 2, 3, 4].map((l) => [l, `P${l + 2} only`])];
  select(bar, model, "level", "show", levelNames);
  slider(bar, model, "covered", "found from IoU", { min: 0.3, max: 0.95, step: 0.05, format: (v) => number(v) });

  const [height, width] = model.get("size");
  const panels = html("div", { class: "mw-proposals" }, root);
  panels.style.cssText = "display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start";
  const view = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "image with proposals" }, panels);
  const plot = svg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}` }, panels);
  for (const panel of [view, plot]) panel.style.cssText = "flex:1 1 260px;min-width:0;max-width:420px";
  svg("image", { href: rgbPicture(model.get("image"), height, width), width, height }, view);
  const shownLayer = svg("g", { fill: "none" }, view);
  const truthLayer = svg("g", { fill: "none" }, view);
  axes(plot);
  const curve = svg("path", { fill: "none", stroke: "var(--mw-blue)", "stroke-width": 2 }, plot);
  const line = svg("line", { y1: recallToY(1), y2: recallToY(0), stroke: "var(--mw-orange)", "stroke-width": 2 }, plot);
  const handle = svg("circle", { r: 9, fill: "var(--mw-orange)" }, plot);
  const legend = html("div", {}, root);
  legend.style.cssText = "margin-top:8px;display:flex;flex-wrap:wrap;gap:4px 14px";
  COLOURS.forEach((paint, level) => {
    const item = html("span", {}, legend);
    html("span", { style: `display:inline-block;width:14px;height:3px;background:${paint};vertical-align:middle;margin-right:5px` }, item);
    item.append(`P${level + 2}`);
  });
  const says = html("div", { "aria-live": "polite" }, root);
  says.style.marginTop = "6px";

  const boxes = rows(model.get("candidates"));
  const truths = rows(model.get("truths"));
  const levels = model.get("levels");
  let shown = 1; // pixels of the page per pixel of the image

  draggable(handle, {
    label: "number of proposals kept",
    at: () => [countToX(model.get("kept")), recallToY(0.5)],
    move: (x) => {
      const now = model.get("kept");
      let next = xToCount(x);
      // A key press is one pixel, which on this axis may be less than one proposal.
      const from = countToX(now);
      if (next === now && Math.abs(x - from) >= 1) next = clamp(now + Math.sign(x - from), 1, 200);
      put(model, { kept: next });
    },
  });

  const frame = (layer, [x1, y1, x2, y2], attributes) =>
    svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, ...attributes }, layer);

  const draw = () => {
    const order = survivors(boxes, levels, model.get("level"), model.get("nms"));
    const needs = needed(truths, order.map((i) => boxes[i]), model.get("covered"));
    const kept = Math.min(model.get("kept"), order.length);
    shownLayer.replaceChildren();
    truthLayer.replaceChildren();
    for (const i of order.slice(0, kept).reverse()) {
      frame(shownLayer, boxes[i], { stroke: COLOURS[levels[i] % 5], "stroke-width": 1.3 / shown });
    }
    truths.forEach((truth, g) => {
      const hit = needs[g] > 0 && needs[g] <= kept;
      const dash = hit ? null : `${4 / shown} ${3 / shown}`;
      frame(truthLayer, truth, { stroke: "#ffffff", "stroke-width": 4.5 / shown, "stroke-dasharray": dash });
      frame(truthLayer, truth, { stroke: "#000000", "stroke-width": 2.2 / shown, "stroke-dasharray": dash });
    });
    let path = `M ${countToX(1)} ${recallToY(recall(needs, 1))}`;
    for (let count = 2; count <= 200; count++) {
      path += ` H ${countToX(count)} V ${recallToY(recall(needs, count))}`;
    }
    set(curve, { d: path });
    const x = countToX(model.get("kept"));
    set(line, { x1: x, x2: x });
    set(handle, { cx: x, cy: recallToY(0.5) });
    const hits = needs.filter((need) => need > 0 && need <= kept).length;
    says.textContent = `${boxes.length} candidates, ${order.length} after NMS, ${kept} kept: ${hits} of ${truths.length} objects found.`;
    root.dataset.state = `${model.get("kept")} kept, level ${model.get("level")}, ${hits} found`;
  };
  const stop = watch(model, ["kept", "nms", "level", "covered"], draw);
  const still = onResize(root, () => {
    shown = view.getBoundingClientRect().width / width || 1;
    draw();
  });
  return () => {
    stop();
    still();
  };
}

export default { render };
