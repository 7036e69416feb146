// The loss browser. Left the curves of two runs, right what each detects: a failure, and health.

import {
  clamp, controls, draggable, floats, html, mount, number, onResize, put, select, set, slider, svg,
  watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

const SERIES = ["loss", "rpn_objectness", "rpn_box", "box_class", "box", "mask", "gradient_norm"];
const OVERLAP = 0.5; // IoU from which a detection is right

/** Means over `width` neighbours: one value for each window that lies within `values`. */
export function smooth(values, width) {
  const size = Math.min(width, values.length);
  const means = [];
  for (let start = 0; start + size <= values.length; start++) {
    let sum = 0;
    for (let k = start; k < start + size; k++) sum += values[k];
    means.push(sum / size);
  }
  return means;
}

/** Run lengths of COCO's compressed string: background, object, background, … down the columns. */
export function runLengths(text) {
  const runs = [];
  let value = 0;
  let shift = 0;
  for (const char of text) {
    const code = char.charCodeAt(0) - 48;
    value |= (code & 31) << shift;
    shift += 5;
    if (code & 32) continue;
    if (code & 16) value -= 1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
    value = 0;
    shift = 0;
  }
  return runs;
}

/** The pixels of a mask as strips [column, first row, length], none longer than a column. */
export function strips(text, height) {
  const found = [];
  let place = 0;
  runLengths(text).forEach((run, i) => {
    let left = run;
    while (i % 2 && left > 0) {
      const row = (place + run - left) % height;
      const length = Math.min(left, height - row);
      found.push([Math.floor((place + run - left) / height), row, length]);
      left -= length;
    }
    place += run;
  });
  return found;
}

/** IoU of two boxes [x1, y1, x2, y2]. */
export function iou(a, b) {
  const w = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const h = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h;
  return union > 0 ? (w * h) / union : 0;
}

/** For each detection, best first, the object [x1, y1, x2, y2, label] that it claims, or −1. */
export function claims(detections, truths) {
  const taken = new Set();
  return detections.map(([x, y, w, h, label]) => {
    let best = -1;
    let highest = 0;
    truths.forEach((truth, g) => {
      const value = iou([x, y, x + w, y + h], truth);
      if (truth[4] !== label || taken.has(g) || value < OVERLAP) return;
      if (best < 0 || value > highest) [best, highest] = [g, value];
    });
    if (best >= 0) taken.add(best);
    return best;
  });
}

// ---------------------------------------------------------------- view

const PLOT = { left: 46, right: 12, top: 12, bottom: 36, width: 340, height: 250 };
const HEALTHY = "var(--mw-blue)";
const FAILED = "var(--mw-red)";

/** Powers of ten, and their doubles and fives, between two numbers. */
function ticks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of [1, 2, 5]) {
      const value = digit * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found.length > 6 ? found.filter((v) => /^1/.test(v.toExponential())) : found;
}

function render({ model, el }) {
  const root = mount(el, "failures");
  const titles = model.get("titles");
  const steps = model.get("steps");
  const [height, width] = model.get("size");
  const names = model.get("names");
  const all = floats(model.get("curves"));
  const raw = (run, series) => {
    const start = (run * SERIES.length + SERIES.indexOf(series)) * steps;
    return all.subarray(start, start + steps);
  };

  const bar = controls(root);
  select(bar, model, "run", "failure", titles.map((title, i) => [i, title]).slice(1));
  select(bar, model, "series", "curve", SERIES.map((name) => [name, name.replaceAll("_", " ")]));
  slider(bar, model, "width", "mean of steps", { min: 1, max: 40 });
  select(bar, model, "picture", "picture", model.get("images").map((_, i) => [i, String(i + 1)]));
  slider(bar, model, "threshold", "score above", { min: 0.05, max: 0.95, step: 0.05, format: (v) => number(v) });

  const panels = html("div", {}, root);
  panels.style.cssText = "display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start";
  const chart = html("div", {}, panels);
  chart.style.cssText = "flex:1.5 1 290px;min-width:0;max-width:480px";
  const plot = svg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": "curves of both runs" }, chart);
  plot.style.width = "100%";
  const grid = svg("g", {}, plot);
  const lines = [HEALTHY, FAILED].map((stroke) => svg("path", { fill: "none", stroke, "stroke-width": 1.8 }, plot));
  const cursor = svg("line", { stroke: "currentColor", "stroke-width": 1, "stroke-dasharray": "3 3", y1: PLOT.top, y2: PLOT.height - PLOT.bottom }, plot);
  const handle = svg("circle", { r: 8, cy: PLOT.height - PLOT.bottom, fill: "currentColor" }, plot);
  const pair = html("div", {}, panels);
  pair.style.cssText = "flex:1.5 1 300px;min-width:0;max-width:480px;display:flex;gap:14px";
  const views = [0, 1].map((side) => {
    const box = html("div", {}, pair);
    box.style.cssText = "flex:1 1 0;min-width:0";
    const caption = html("div", {}, box);
    caption.style.cssText = `font-size:13px;min-height:2.8em;border-top:4px solid ${side ? FAILED : HEALTHY};padding-top:4px`;
    const view = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, box);
    view.style.width = "100%";
    const image = svg("image", { width, height }, view);
    return { caption, view, image, layer: svg("g", {}, view) };
  });
  const legend = html("div", {}, root);
  legend.style.cssText = "margin-top:8px;display:flex;flex-wrap:wrap;gap:4px 14px";
  for (const [text, stroke] of [["right: class and place", "3px solid var(--mw-green)"], ["wrong", "3px solid var(--mw-red)"], ["object not found", "3px dotted currentColor"]]) {
    const item = html("span", {}, legend);
    html("span", { style: `display:inline-block;width:18px;border-top:${stroke};vertical-align:middle;margin-right:5px` }, item);
    item.append(text);
  }
  const says = html("div", { "aria-live": "polite" }, root);
  says.style.marginTop = "6px";

  const toX = (step) => PLOT.left + (step / Math.max(1, steps - 1)) * (PLOT.width - PLOT.left - PLOT.right);
  draggable(handle, {
    label: "step",
    at: () => [toX(model.get("step")), PLOT.height - PLOT.bottom],
    move: (x) => {
      const part = (x - PLOT.left) / (PLOT.width - PLOT.left - PLOT.right);
      put(model, { step: Math.round(clamp(part, 0, 1) * (steps - 1)) });
    },
    step: (PLOT.width - PLOT.left - PLOT.right) / Math.max(1, steps - 1),
  });

  const drawChart = (curves, shift) => {
    const known = curves.flat().filter((v) => v > 0);
    const [low, high] = known.length ? [Math.min(...known) * 0.9, Math.max(...known) * 1.1] : [0.1, 1];
    const toY = (v) => {
      const part = (Math.log(v) - Math.log(low)) / (Math.log(high) - Math.log(low) || 1);
      return PLOT.height - PLOT.bottom - part * (PLOT.height - PLOT.top - PLOT.bottom);
    };
    grid.replaceChildren();
    const style = { stroke: "var(--mw-line)", "stroke-width": 1 };
    for (const value of ticks(low, high)) {
      svg("line", { x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: toY(value), y2: toY(value), ...style }, grid);
      svg("text", { x: PLOT.left - 6, y: toY(value) + 4, "text-anchor": "end", "font-size": 11, text: String(Number(value.toPrecision(1))) }, grid);
    }
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      const x = toX(part * (steps - 1));
      svg("line", { x1: x, x2: x, y1: PLOT.top, y2: PLOT.height - PLOT.bottom, ...style }, grid);
      svg("text", { x, y: PLOT.height - PLOT.bottom + 20, "text-anchor": "middle", "font-size": 11, text: Math.round(part * steps) }, grid);
    }
    svg("text", { x: toX((steps - 1) / 2), y: PLOT.height - 2, "text-anchor": "middle", "font-size": 12, text: "step" }, grid);
    curves.forEach((values, i) => {
      let d = "";
      values.forEach((v, k) => {
        if (v > 0) d += `${d && values[k - 1] > 0 ? "L" : "M"}${toX(k + shift).toFixed(1)} ${toY(v).toFixed(1)}`;
      });
      set(lines[i], { d: d || "M0 0" });
    });
  };

  let shown = 1; // pixels of the page per pixel of the image
  const drawView = ({ caption, view, image, layer }, run) => {
    const picture = model.get("picture");
    const threshold = model.get("threshold");
    const truths = model.get("truths")[picture];
    const detections = model.get("found")[run][picture].filter((d) => d[5] > threshold);
    const claimed = claims(detections, truths);
    const [box, mask] = model.get("measured")[run];
    caption.textContent = `${titles[run]}: box AP ${number(box, 0)}, mask AP ${number(mask, 0)}`;
    set(view, { "aria-label": `detections of the run ${titles[run]}` });
    set(image, { href: model.get("images")[picture] });
    layer.replaceChildren();
    truths.forEach(([x1, y1, x2, y2], g) => {
      if (claimed.includes(g)) return;
      const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none" };
      svg("rect", { ...place, stroke: "#ffffff", "stroke-width": 4 / shown }, layer);
      svg("rect", { ...place, stroke: "#000000", "stroke-width": 2 / shown, "stroke-dasharray": `${4 / shown} ${4 / shown}` }, layer);
    });
    const order = detections.map((_, i) => i).sort((a, b) => Math.sign(claimed[a] + 1) - Math.sign(claimed[b] + 1) || b - a);
    for (const i of order) {
      const [x, y, w, h, , , counts] = detections[i];
      const paint = claimed[i] >= 0 ? "var(--mw-green)" : "var(--mw-red)";
      const d = strips(counts, height).map(([column, row, length]) => `M${column} ${row}h1v${length}h-1z`).join("");
      svg("path", { d, fill: paint, "fill-opacity": 0.45 }, layer);
      svg("rect", { x, y, width: w, height: h, fill: "none", stroke: paint, "stroke-width": 2 / shown }, layer);
    }
    const size = 11 / shown;
    const used = [];
    detections.forEach(([x, y, , , label, score], i) => {
      const text = `${names[label - 1]} ${number(score)}`;
      const left = clamp(x, 0, Math.max(0, width - 0.56 * size * text.length));
      const base = Math.max(size, y - 2 / shown);
      const place = [left, base - size, left + 0.56 * size * text.length, base];
      if (used.some((other) => iou(place, other) > 0)) return;
      used.push(place);
      const style = { x: left, y: base, "font-size": size, "paint-order": "stroke", stroke: "#ffffff", "stroke-width": size / 3.5 };
      svg("text", { ...style, text, style: `fill:${claimed[i] >= 0 ? "#00694d" : "#a33f00"}` }, layer);
    });
    return [claimed.filter((g) => g >= 0).length, detections.length, truths.length];
  };

  const draw = () => {
    const run = model.get("run");
    const series = model.get("series");
    const size = Math.min(model.get("width"), steps);
    const curves = [0, run].map((r) => smooth(raw(r, series), size));
    drawChart(curves, (size - 1) / 2);
    const step = model.get("step");
    set(cursor, { x1: toX(step), x2: toX(step) });
    set(handle, { cx: toX(step) });
    const at = clamp(Math.round(step - (size - 1) / 2), 0, curves[0].length - 1);
    const [sound, failed] = curves.map((c) => (Number.isFinite(c[at]) ? number(c[at], 3) : "no number"));
    const counts = views.map((view, side) => drawView(view, side ? run : 0));
    says.textContent =
      `Around step ${step} the ${series.replaceAll("_", " ")} is ${sound} (healthy) and ${failed} (${titles[run]}). ` +
      `In the picture ${counts[0][0]} of ${counts[0][2]} objects are found and ${counts[1][0]}; ` +
      `${counts[0][1] - counts[0][0]} and ${counts[1][1] - counts[1][0]} detections are wrong.`;
    root.dataset.state = `${titles[run]}, ${series}, step ${step}: ${sound} / ${failed}; ${counts.join(" / ")}; ${model.get("threshold")} ${size} ${model.get("picture")}`;
  };
  const stop = watch(model, ["run", "series", "width", "step", "picture", "threshold"], draw);
  const still = onResize(root, () => {
    shown = views[0].view.getBoundingClientRect().width / width || 1;
    draw();
  });
  return () => {
    stop();
    still();
  };
}

export default { render };
