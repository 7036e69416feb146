// Detections whose scores can be dragged. Left the images and the scores, right the curve and the
// AP at each of the ten IoU thresholds.

import {
  clamp, controls, draggable, floats, html, mount, number, put, set, slider, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

/** IoU of two boxes [x1, y1, x2, y2]. */
export function iou(a, b) {
  const w = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const h = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h;
  return w * h > 0 ? (w * h) / union : 0;
}

/** Detections by falling score; of equal scores those of the earlier image first. */
export function ranking(scores, images) {
  const order = scores.map((_, d) => d);
  return order.sort((a, b) => scores[b] - scores[a] || images[a] - images[b] || a - b);
}

/**
 * The object that each detection finds, or −1. In the order of their scores, each takes the free
 * object of its image that it overlaps most; of equal overlaps the later one.
 */
export function match(boxes, images, scores, objects, objectImages, threshold) {
  const found = boxes.map(() => -1);
  const free = objects.map(() => true);
  for (const d of ranking(scores, images)) {
    let best = threshold;
    objects.forEach((object, g) => {
      if (!free[g] || objectImages[g] !== images[d]) return;
      const overlap = iou(boxes[d], object);
      if (overlap < best) return;
      best = overlap;
      found[d] = g;
    });
    if (found[d] >= 0) free[found[d]] = false;
  }
  return found;
}

/** Precision, its envelope and recall of the best 1, 2, … of `right`, which is in their order. */
export function curve(right, count) {
  let hits = 0;
  const raw = [];
  const recall = [];
  right.forEach((each, k) => {
    hits += each ? 1 : 0;
    raw.push(hits / (k + 1));
    recall.push(hits / count);
  });
  const envelope = raw.slice();
  for (let k = envelope.length - 2; k >= 0; k--) envelope[k] = Math.max(envelope[k], envelope[k + 1]);
  return { raw, envelope, recall };
}

/** Precision at the recalls 0, 0.01, …, 1: where the curve first reaches each; 0 beyond it. */
export function atRecalls({ envelope, recall }) {
  return Array.from({ length: 101 }, (_, q) => {
    const place = recall.findIndex((r) => r >= (q === 100 ? 1 : q * 0.01));
    return place < 0 ? 0 : envelope[place];
  });
}

/** Mean of numbers. */
export function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// ---------------------------------------------------------------- view

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const [RIGHT, WRONG] = ["var(--mw-green)", "var(--mw-red)"];
const LIST = { width: 360, left: 46, right: 104, row: 27, top: 20 };
const PLOT = { left: 46, right: 14, top: 12, bottom: 42, width: 360, height: 270 };
const BARS = { left: 46, right: 14, top: 18, bottom: 34, width: 360, height: 120 };

function rows(bytes) {
  const values = floats(bytes);
  return Array.from({ length: values.length / 4 }, (_, i) => Array.from(values.subarray(4 * i, 4 * i + 4)));
}

const scoreToX = (score) => LIST.left + score * (LIST.width - LIST.left - LIST.right);
const xToScore = (x) => clamp((x - LIST.left) / (LIST.width - LIST.left - LIST.right), 0, 1);
const rowToY = (d) => LIST.top + (d + 0.5) * LIST.row;
const plotX = (r) => PLOT.left + r * (PLOT.width - PLOT.left - PLOT.right);
const plotY = (p) => PLOT.height - PLOT.bottom - p * (PLOT.height - PLOT.top - PLOT.bottom);
const TEXT = { "font-size": 12 };
const GRID = { stroke: "var(--mw-line)", "stroke-width": 1 };

/** One drawing with all images side by side; returns where the boxes of each go. */
function pictures(parent, count, height, width) {
  const gap = 10;
  const canvas = svg("svg", { viewBox: `0 -16 ${count * (width + gap) - gap} ${height + 17}`, role: "img", "aria-label": "the images with objects and detections" }, parent);
  return Array.from({ length: count }, (_, i) => {
    const group = svg("g", { transform: `translate(${i * (width + gap)} 0)` }, canvas);
    svg("text", { x: 0, y: -5, "font-size": 9, text: `image ${i + 1}` }, group);
    svg("rect", { width, height, fill: "var(--mw-panel)" }, group);
    return group;
  });
}

function axes(plot) {
  for (const v of [0, 0.25, 0.5, 0.75, 1]) {
    svg("line", { x1: plotX(v), x2: plotX(v), y1: plotY(0), y2: plotY(1), ...GRID }, plot);
    svg("line", { x1: plotX(0), x2: plotX(1), y1: plotY(v), y2: plotY(v), ...GRID }, plot);
    svg("text", { x: plotX(v), y: plotY(0) + 16, "text-anchor": "middle", "font-size": 11, text: v }, plot);
    svg("text", { x: plotX(0) - 6, y: plotY(v) + 4, "text-anchor": "end", "font-size": 11, text: v }, plot);
  }
  svg("text", { x: plotX(0.5), y: PLOT.height - 6, "text-anchor": "middle", ...TEXT, text: "recall" }, plot);
  svg("text", { x: 12, y: plotY(0.5), "text-anchor": "middle", ...TEXT, transform: `rotate(-90 12 ${plotY(0.5)})`, text: "precision" }, plot);
}

function render({ model, el }) {
  const root = mount(el, "precision_recall");
  const boxes = rows(model.get("boxes"));
  const objects = rows(model.get("objects"));
  const [images, objectImages] = [model.get("images"), model.get("object_images")];
  const thresholds = model.get("thresholds");
  const nearest = () => thresholds.reduce((a, b) => (Math.abs(b - model.get("iou")) < Math.abs(a - model.get("iou")) ? b : a));

  const bar = controls(root);
  slider(bar, model, "iou", "right from IoU", { min: 0.5, max: 0.95, step: 0.05, format: (v) => number(v) });
  slider(bar, model, "cut", "shown from score", { min: 0, max: 1, step: 0.01, format: (v) => number(v) });
  const panels = html("div", { style: "display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start" }, root);
  const half = "flex:1 1 320px;min-width:0;max-width:440px";
  const left = html("div", { style: half }, panels);
  const right = html("div", { style: half }, panels);

  const [height, width] = model.get("size");
  const layers = pictures(left, 1 + Math.max(...images, ...objectImages), height, width);
  objects.forEach(([x1, y1, x2, y2], g) => {
    svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "var(--mw-muted)", "fill-opacity": 0.35 }, layers[objectImages[g]]);
  });
  const frames = boxes.map(([x1, y1, x2, y2], d) => {
    const layer = layers[images[d]];
    const frame = svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none", "stroke-width": 1.4 }, layer);
    // Every other letter is in the right corner: near copies are listed one after the other.
    const corner = d % 2 ? { x: x2 - 2, "text-anchor": "end" } : { x: x1 + 2 };
    const name = svg("text", { ...corner, y: y1 + 8.5, "font-size": 9, "font-weight": 700, text: LETTERS[d] }, layer);
    return { frame, name };
  });

  const list = svg("svg", { viewBox: `0 0 ${LIST.width} ${LIST.top + LIST.row * boxes.length + 34}` }, left);
  list.style.marginTop = "10px";
  const bottom = LIST.top + LIST.row * boxes.length;
  for (const v of [0, 0.5, 1]) {
    svg("line", { x1: scoreToX(v), x2: scoreToX(v), y1: LIST.top - 4, y2: bottom, ...GRID }, list);
    svg("text", { x: scoreToX(v), y: bottom + 15, "text-anchor": "middle", "font-size": 11, text: v }, list);
  }
  svg("text", { x: scoreToX(0.5), y: bottom + 30, "text-anchor": "middle", ...TEXT, text: "score: drag the dots" }, list);
  svg("text", { x: LIST.width, y: 11, "text-anchor": "end", "font-size": 11, fill: "var(--mw-muted)", text: "rank, IoU, verdict" }, list);
  const cutLine = svg("line", { y1: LIST.top - 4, y2: bottom, stroke: "var(--mw-orange)", "stroke-width": 2, "stroke-dasharray": "4 3" }, list);
  const dots = boxes.map((_, d) => {
    const y = rowToY(d);
    svg("line", { x1: scoreToX(0), x2: scoreToX(1), y1: y, y2: y, ...GRID }, list);
    svg("text", { x: 6, y: y + 4, ...TEXT, "font-weight": 600, text: `${LETTERS[d]}` }, list);
    svg("text", { x: 22, y: y + 4, "font-size": 10, fill: "var(--mw-muted)", text: `im ${images[d] + 1}` }, list);
    const verdict = svg("text", { x: LIST.width, y: y + 4, "text-anchor": "end", ...TEXT }, list);
    const dot = svg("circle", { r: 9, cy: y, stroke: "var(--mw-bg)", "stroke-width": 1.5 }, list);
    draggable(dot, {
      label: `score of detection ${LETTERS[d]}`,
      at: () => [scoreToX(model.get("scores")[d]), y],
      move: (x) => {
        const now = model.get("scores")[d];
        const from = scoreToX(now);
        let next = Math.round(100 * xToScore(x)) / 100;
        // A key press is one pixel, which may be less than one hundredth.
        if (next === now && Math.abs(x - from) >= 1) next = clamp(now + 0.01 * Math.sign(x - from), 0, 1);
        const scores = model.get("scores").slice();
        scores[d] = Math.round(100 * next) / 100;
        put(model, { scores });
      },
    });
    return { dot, verdict };
  });

  const plot = svg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": "precision against recall" }, right);
  axes(plot);
  const area = svg("path", { fill: "var(--mw-blue)", "fill-opacity": 0.18 }, plot);
  const step = svg("path", { fill: "none", stroke: "var(--mw-blue)", "stroke-width": 2.2 }, plot);
  const rawLine = svg("path", { fill: "none", stroke: "var(--mw-muted)", "stroke-width": 1.2 }, plot);
  const marks = boxes.map(() => {
    const circle = svg("circle", { r: 4 }, plot);
    const name = svg("text", { "font-size": 10, "text-anchor": "middle" }, plot);
    return { circle, name };
  });
  const ring = svg("circle", { r: 8, fill: "none", stroke: "var(--mw-orange)", "stroke-width": 2.5 }, plot);

  const chart = svg("svg", { viewBox: `0 0 ${BARS.width} ${BARS.height}`, role: "img", "aria-label": "AP at each IoU threshold" }, right);
  const barWidth = (BARS.width - BARS.left - BARS.right) / thresholds.length;
  const barY = (v) => BARS.height - BARS.bottom - v * (BARS.height - BARS.top - BARS.bottom);
  const columns = thresholds.map((t, k) => {
    const x = BARS.left + k * barWidth;
    const column = svg("rect", { x: x + 2, width: barWidth - 4 }, chart);
    const value = svg("text", { x: x + barWidth / 2, "text-anchor": "middle", "font-size": 10 }, chart);
    svg("text", { x: x + barWidth / 2, y: barY(0) + 13, "text-anchor": "middle", "font-size": 10, text: number(t) }, chart);
    return { column, value };
  });
  svg("text", { x: plotX(0.5), y: BARS.height - 4, "text-anchor": "middle", ...TEXT, text: "AP at each IoU threshold" }, chart);

  const says = html("div", { "aria-live": "polite", style: "margin-top:8px;font-variant-numeric:tabular-nums" }, root);

  return watch(model, ["scores", "iou", "cut"], () => {
    const scores = model.get("scores");
    const order = ranking(scores, images);
    const judged = (t) => match(boxes, images, scores, objects, objectImages, t);
    const curveOf = (found) => curve(order.map((d) => found[d] >= 0), objects.length);
    const chosen = nearest();
    const found = judged(chosen);
    const line = curveOf(found);
    const points = atRecalls(line);

    boxes.forEach((box, d) => {
      const paint = found[d] >= 0 ? RIGHT : WRONG;
      const shown = scores[d] >= model.get("cut");
      set(frames[d].frame, { stroke: paint, "stroke-opacity": shown ? 1 : 0.35 });
      set(frames[d].name, { style: `fill:${paint};opacity:${shown ? 1 : 0.45}` });
      set(dots[d].dot, { cx: scoreToX(scores[d]), fill: paint });
      const overlaps = objects.map((object, g) => (objectImages[g] === images[d] ? iou(box, object) : 0));
      const rank = order.indexOf(d) + 1;
      dots[d].verdict.textContent = `${rank}.  ${number(Math.max(...overlaps))}  ${found[d] >= 0 ? "right" : "wrong"}`;
      set(dots[d].verdict, { style: `fill:${paint}` });
    });
    set(cutLine, { x1: scoreToX(model.get("cut")), x2: scoreToX(model.get("cut")) });

    let path = "";
    points.forEach((p, q) => {
      path += q === 0 ? `M ${plotX(0)} ${plotY(p)}` : ` V ${plotY(p)} H ${plotX(q / 100)}`;
    });
    set(step, { d: path });
    set(area, { d: `${path} V ${plotY(0)} H ${plotX(0)} Z` });
    set(rawLine, { d: line.raw.map((p, k) => `${k ? "L" : "M"} ${plotX(line.recall[k])} ${plotY(p)}`).join(" ") });
    order.forEach((d, k) => {
      const [x, y] = [plotX(line.recall[k]), plotY(line.raw[k])];
      set(marks[k].circle, { cx: x, cy: y, fill: found[d] >= 0 ? RIGHT : WRONG });
      set(marks[k].name, { x: x + (x > PLOT.width - 30 ? -11 : 11), y: y + 12, text: LETTERS[d] });
    });
    const shown = scores.filter((score) => score >= model.get("cut")).length;
    set(ring, { visibility: shown ? "visible" : "hidden" });
    if (shown) set(ring, { cx: plotX(line.recall[shown - 1]), cy: plotY(line.raw[shown - 1]) });

    const aps = thresholds.map((t) => mean(atRecalls(curveOf(judged(t)))));
    aps.forEach((ap, k) => {
      const now = thresholds[k] === chosen;
      set(columns[k].column, { y: barY(ap), height: barY(0) - barY(ap), fill: now ? "var(--mw-blue)" : "var(--mw-sky)" });
      set(columns[k].value, { y: barY(ap) - 4, text: ap.toFixed(2), "font-weight": now ? 700 : 400 });
    });
    const hits = order.slice(0, shown).filter((d) => found[d] >= 0).length;
    const user = shown
      ? `Shown from score ${number(model.get("cut"))}: ${shown} detections, ${hits} right; precision ${number(hits / shown)}, recall ${number(hits / objects.length)}.`
      : `Shown from score ${number(model.get("cut"))}: nothing.`;
    says.textContent = `AP at IoU ${number(chosen)}: ${number(mean(points), 3)}. AP, mean of the ten: ${number(mean(aps), 3)}. ${user}`;
    root.dataset.state = `AP ${number(mean(aps), 3)}, at ${number(chosen)} ${number(mean(points), 3)}, shown ${shown}`;
  });
}

export default { render };
