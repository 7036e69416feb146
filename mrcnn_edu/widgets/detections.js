// The detection explorer. Left the image with what is reported, right precision and recall.

import {
  checkbox, clamp, controls, draggable, floats, html, mount, number, onResize, put, set, slider,
  svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

const LIMIT = 100; // detections of an image

/** IoU of two boxes [x1, y1, x2, y2]. */
export function iou(a, b) {
  const w = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const h = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h;
  return union > 0 ? (w * h) / union : 0;
}

/**
 * Indices of boxes that survive non-maximum suppression, best first; within their class, or
 * between all classes with `across`. `boxes` are sorted by score.
 */
export function survivors(boxes, labels, threshold, across) {
  const kept = [];
  for (let i = 0; i < boxes.length; i++) {
    const alone = kept.every(
      (k) => (!across && labels[k] !== labels[i]) || iou(boxes[k], boxes[i]) <= threshold,
    );
    if (alone) kept.push(i);
  }
  return kept;
}

/** How many of the survivors are reported: those above the score threshold, at most 100. */
export function reported(order, scores, threshold) {
  const end = order.findIndex((i) => !(scores[i] > threshold));
  return Math.min(LIMIT, end < 0 ? order.length : end);
}

/** For each box, best first, the object of its class that it claims; −1 where there is none. */
export function claims(boxes, labels, truths, truthLabels, overlap) {
  const taken = new Set();
  return boxes.map((box, i) => {
    let best = -1;
    let highest = 0;
    truths.forEach((truth, g) => {
      const value = iou(box, truth);
      if (truthLabels[g] !== labels[i] || taken.has(g) || value < overlap) return;
      if (best < 0 || value > highest) [best, highest] = [g, value];
    });
    if (best >= 0) taken.add(best);
    return best;
  });
}

/** Precision and recall of the first `count` claims, with so many objects in the image. */
export function precisionRecall(claimed, count, objects) {
  const right = claimed.slice(0, count).filter((g) => g >= 0).length;
  return [count ? right / count : 1, objects ? right / objects : 1];
}

// ---------------------------------------------------------------- view

const PLOT = { left: 40, right: 14, top: 24, bottom: 40, width: 320, height: 250 };
const COLOURS = { precision: "var(--mw-blue)", recall: "var(--mw-orange)" };

function rows(bytes) {
  const values = floats(bytes);
  return Array.from({ length: values.length / 4 }, (_, i) => Array.from(values.subarray(4 * i, 4 * i + 4)));
}

const toX = (score) => PLOT.left + score * (PLOT.width - PLOT.left - PLOT.right);
const toY = (share) => PLOT.height - PLOT.bottom - share * (PLOT.height - PLOT.top - PLOT.bottom);
const toScore = (x) => clamp((x - PLOT.left) / (PLOT.width - PLOT.left - PLOT.right), 0, 0.99);

function axes(plot) {
  const style = { stroke: "var(--mw-line)", "stroke-width": 1 };
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    svg("line", { x1: toX(value), x2: toX(value), y1: toY(1), y2: toY(0), ...style }, plot);
    svg("line", { x1: toX(0), x2: toX(1), y1: toY(value), y2: toY(value), ...style }, plot);
    svg("text", { x: toX(value), y: toY(0) + 16, "text-anchor": "middle", "font-size": 11, text: value }, plot);
    svg("text", { x: PLOT.left - 6, y: toY(value) + 4, "text-anchor": "end", "font-size": 11, text: value }, plot);
  }
  const label = { "text-anchor": "middle", "font-size": 12, text: "score threshold" };
  svg("text", { x: toX(0.5), y: PLOT.height - 6, ...label }, plot);
  Object.entries(COLOURS).forEach(([name, paint], i) => {
    const x = toX(0) + 90 * i;
    svg("line", { x1: x, x2: x + 18, y1: 10, y2: 10, stroke: paint, "stroke-width": 3 }, plot);
    svg("text", { x: x + 23, y: 14, "font-size": 12, text: name }, plot);
  });
}

function render({ model, el }) {
  const root = mount(el, "detections");
  const bar = controls(root);
  const two = { format: (v) => number(v) };
  slider(bar, model, "threshold", "score above", { min: 0, max: 0.99, step: 0.01, ...two });
  slider(bar, model, "nms", "NMS at IoU", { min: 0.05, max: 1, step: 0.05, ...two });
  checkbox(bar, model, "across", "between classes too");
  slider(bar, model, "overlap", "right from IoU", { min: 0.3, max: 0.95, step: 0.05, ...two });

  const [height, width] = model.get("size");
  const panels = html("div", {}, root);
  panels.style.cssText = "display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start";
  const view = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "image with detections" }, panels);
  const plot = svg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}` }, panels);
  for (const panel of [view, plot]) panel.style.cssText = "flex:1 1 260px;min-width:0;max-width:420px";
  svg("image", { href: model.get("image"), width, height }, view);
  const truthLayer = svg("g", { fill: "none" }, view);
  const shownLayer = svg("g", { fill: "none" }, view);
  axes(plot);
  const curves = Object.fromEntries(
    Object.entries(COLOURS).map(([name, stroke]) => [name, svg("path", { fill: "none", stroke, "stroke-width": 2 }, plot)]),
  );
  const line = svg("line", { y1: toY(1), y2: toY(0), stroke: "currentColor", "stroke-width": 2 }, plot);
  const handle = svg("circle", { r: 9, cy: toY(0.5), fill: "currentColor" }, plot);
  const legend = html("div", {}, root);
  legend.style.cssText = "margin-top:8px;display:flex;flex-wrap:wrap;gap:4px 14px";
  for (const [text, stroke] of [["right", "3px solid var(--mw-green)"], ["wrong", "3px solid var(--mw-red)"], ["object not found", "3px dotted currentColor"]]) {
    const item = html("span", {}, legend);
    html("span", { style: `display:inline-block;width:18px;border-top:${stroke};vertical-align:middle;margin-right:5px` }, item);
    item.append(text);
  }
  const says = html("div", { "aria-live": "polite" }, root);
  says.style.marginTop = "6px";

  const boxes = rows(model.get("candidates"));
  const scores = floats(model.get("scores"));
  const labels = model.get("labels");
  const truths = rows(model.get("truths"));
  const truthLabels = model.get("truth_labels");
  const names = model.get("names");
  let shown = 1; // pixels of the page per pixel of the image
  let order = [];
  let claimed = [];
  let made = ""; // what the two lists above were made with

  draggable(handle, {
    label: "score threshold",
    at: () => [toX(model.get("threshold")), toY(0.5)],
    move: (x) => put(model, { threshold: Math.round(100 * toScore(x)) / 100 }),
    step: (toX(1) - toX(0)) / 100,
  });

  const frame = (layer, [x1, y1, x2, y2], attributes) =>
    svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, ...attributes }, layer);

  const tag = (box, text, paint, places) => {
    const size = 10.5 / shown;
    const long = 0.58 * size * text.length;
    const x = clamp(box[0], 0, width - long);
    const y = Math.max(size, box[1] - 2 / shown);
    const place = [x, y - size, x + long, y];
    if (places.some((other) => iou(place, other) > 0)) return;
    places.push(place);
    const style = { x, y, "font-size": size, "paint-order": "stroke", stroke: "#ffffff", "stroke-width": size / 3.5 };
    svg("text", { ...style, text, style: `fill:${paint}` }, shownLayer);
  };

  const suppress = () => {
    const settings = ["nms", "across", "overlap"].map((name) => model.get(name));
    if (made === settings.join()) return;
    made = settings.join();
    order = survivors(boxes, labels, settings[0], settings[1]);
    const first = order.slice(0, LIMIT);
    claimed = claims(first.map((i) => boxes[i]), first.map((i) => labels[i]), truths, truthLabels, settings[2]);
    const at = (threshold) => precisionRecall(claimed, reported(order, scores, threshold), truths.length);
    const points = Array.from({ length: 100 }, (_, k) => [toX(k / 100), ...at(k / 100)]);
    Object.values(curves).forEach((curve, c) => {
      set(curve, { d: "M" + points.map((p) => `${p[0]} ${toY(p[1 + c])}`).join(" L ") });
    });
  };

  const draw = () => {
    suppress();
    const threshold = model.get("threshold");
    const count = reported(order, scores, threshold);
    const found = new Set(claimed.slice(0, count));
    truthLayer.replaceChildren();
    shownLayer.replaceChildren();
    truths.forEach((truth, g) => {
      if (found.has(g)) return;
      const dash = `${4 / shown} ${4 / shown}`;
      frame(truthLayer, truth, { stroke: "#ffffff", "stroke-width": 4 / shown });
      frame(truthLayer, truth, { stroke: "#000000", "stroke-width": 2.2 / shown, "stroke-dasharray": dash });
    });
    // Wrong ones first, then right ones on top of them; names only while there is room for them.
    for (const right of [false, true]) {
      for (let k = count - 1; k >= 0; k--) {
        if (claimed[k] >= 0 !== right) continue;
        const paint = right ? "var(--mw-green)" : "var(--mw-red)";
        frame(shownLayer, boxes[order[k]], { stroke: paint, "stroke-width": (right ? 2.6 : 1.3) / shown });
      }
    }
    // Names of the best few, each unless a better one stands in its place.
    const places = [];
    for (let k = 0; k < Math.min(count, 20); k++) {
      const i = order[k];
      const text = `${names[labels[i] - 1]} ${number(scores[i])}`;
      tag(boxes[i], text, claimed[k] >= 0 ? "#00694d" : "#a33f00", places);
    }
    set(line, { x1: toX(threshold), x2: toX(threshold) });
    set(handle, { cx: toX(threshold) });
    const [precision, recall] = precisionRecall(claimed, count, truths.length);
    const right = claimed.slice(0, count).filter((g) => g >= 0).length;
    says.textContent =
      `${boxes.length} candidates, ${order.length} after NMS, ${count} reported: ${right} right, ` +
      `${count - right} wrong; ${right} of ${truths.length} objects found. ` +
      `Precision ${number(precision)}, recall ${number(recall)}.`;
    root.dataset.state = `score ${number(threshold)}: ${count} reported, ${right} right, precision ${number(precision)}, recall ${number(recall)}`;
  };
  const stop = watch(model, ["threshold", "nms", "across", "overlap"], draw);
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
