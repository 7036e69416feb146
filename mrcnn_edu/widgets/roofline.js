// A convolution under two roofs: how many multiply-adds per second memory allows, and the processor.
//
// The arithmetic is that of mrcnn_edu/evaluation/roofline.py: pure functions, tested equal to it.

import {
  clamp, controls, draggable, html, mount, number, put, select, set, slider, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

/** Multiply-adds and moved bytes of a convolution that keeps channels, height and width. */
export function cost({ channels, side, kernel, groups, batch }, bytes) {
  const map = batch * channels * side * side;
  const weight = channels * (channels / groups) * kernel * kernel;
  return { work: map * (channels / groups) * kernel * kernel, moved: bytes * (2 * map + weight) };
}

/** What so much work and so many bytes take at least, and which roof says so. */
export function bound({ work, moved }, peak, bandwidth) {
  const seconds = Math.max(work / peak, moved / bandwidth);
  const roof = work >= (peak / bandwidth) * moved ? "compute" : "memory";
  return { work, moved, intensity: work / moved, seconds, rate: work / seconds, roof };
}

/** Of the channels that may be chosen, those whose intensity is nearest, in ratio, to a wanted one. */
export function channelsFor(choices, layer, bytes, wanted) {
  const away = (channels) => {
    const { work, moved } = cost({ ...layer, channels }, bytes);
    return Math.abs(Math.log(work / moved / wanted));
  };
  return choices.reduce((a, b) => (away(b) < away(a) ? b : a));
}

// ---------------------------------------------------------------- view

const VIEW = { width: 440, height: 310, left: 50, right: 12, top: 12, bottom: 46 };
const X = [0.2, 1000];
const Y = [1e9, 4e11];
const CHANNELS = [16, 32, 64, 128, 256, 512, 1024, 2048];
const SIDES = [7, 14, 28, 56, 64, 100, 136, 200, 272];
const log = Math.log10;
const xOf = (v) => VIEW.left + ((log(v) - log(X[0])) / (log(X[1]) - log(X[0]))) * (VIEW.width - VIEW.left - VIEW.right);
const yOf = (v) => VIEW.height - VIEW.bottom - ((log(v) - log(Y[0])) / (log(Y[1]) - log(Y[0]))) * (VIEW.height - VIEW.top - VIEW.bottom);
const atX = (x) => 10 ** (log(X[0]) + ((x - VIEW.left) / (VIEW.width - VIEW.left - VIEW.right)) * (log(X[1]) - log(X[0])));

/** Seconds as text. */
function time(seconds) {
  const [value, unit] = seconds < 1e-3 ? [1e6 * seconds, "µs"] : [1e3 * seconds, "ms"];
  return `${number(value, value < 10 ? 1 : 0)} ${unit}`;
}

/** A large count as text: 1.2 billion, 340 million. */
function large(count) {
  const [value, unit] = count >= 1e9 ? [count / 1e9, "billion"] : [count / 1e6, "million"];
  return `${number(value, value < 10 ? 2 : 0)} ${unit}`;
}

function axes(plot) {
  const grid = { stroke: "var(--mw-line)", "stroke-width": 1 };
  const [bottom, left] = [yOf(Y[0]), xOf(X[0])];
  for (const v of [1, 10, 100, 1000]) {
    svg("line", { x1: xOf(v), x2: xOf(v), y1: bottom, y2: yOf(Y[1]), ...grid }, plot);
    svg("text", { x: xOf(v), y: bottom + 15, "text-anchor": "middle", "font-size": 11, text: v }, plot);
  }
  for (const v of [1, 10, 100]) {
    svg("line", { x1: left, x2: xOf(X[1]), y1: yOf(1e9 * v), y2: yOf(1e9 * v), ...grid }, plot);
    svg("text", { x: left - 6, y: yOf(1e9 * v) + 4, "text-anchor": "end", "font-size": 11, text: v }, plot);
  }
  svg("text", { x: (left + xOf(X[1])) / 2, y: VIEW.height - 8, "text-anchor": "middle", "font-size": 12, text: "multiply-adds per byte" }, plot);
  const middle = (bottom + yOf(Y[1])) / 2;
  svg("text", { x: 14, y: middle, "text-anchor": "middle", "font-size": 12, transform: `rotate(-90 14 ${middle})`, text: "billion multiply-adds per second" }, plot);
}

function render({ model, el }) {
  const root = mount(el, "roofline");
  const roofs = model.get("roofs");
  const layer = () => Object.fromEntries(["channels", "side", "kernel", "groups", "batch"].map((k) => [k, model.get(k)]));

  const bar = controls(root);
  select(bar, model, "channels", "channels", CHANNELS);
  select(bar, model, "side", "map", SIDES.map((s) => [s, `${s} × ${s}`]));
  select(bar, model, "kernel", "kernel", [1, 3, 5, 7].map((k) => [k, `${k} × ${k}`]));
  select(bar, model, "groups", "groups", [1, 2, 4, 8, 16]);
  slider(bar, model, "batch", "images", { min: 1, max: 16 });
  select(bar, model, "roof", "numbers", roofs.map(([label], i) => [i, label]));
  select(bar, model, "memory", "dots measured", ["channels last", "channels first"]);

  const plot = svg("svg", { viewBox: `0 0 ${VIEW.width} ${VIEW.height}`, style: "max-width:640px;width:100%" }, root);
  axes(plot);
  const memory = svg("path", { fill: "none", stroke: "var(--mw-red)", "stroke-width": 2.5 }, plot);
  const compute = svg("path", { fill: "none", stroke: "var(--mw-green)", "stroke-width": 2.5 }, plot);
  svg("text", { x: xOf(0.22), y: yOf(6.5e10), "font-size": 11, style: "fill:var(--mw-red)", text: "memory roof" }, plot);
  const peakName = svg("text", { x: xOf(X[1]), "text-anchor": "end", "font-size": 11, style: "fill:var(--mw-green)" }, plot);
  const marks = model.get("dots").map(([name]) => {
    const dot = svg("circle", { r: 3.5, fill: "var(--mw-blue)", "fill-opacity": 0.65 }, plot);
    svg("title", { text: name }, dot);
    return dot;
  });
  const drop = svg("line", { stroke: "var(--mw-orange)", "stroke-dasharray": "3 3", "stroke-width": 1.5 }, plot);
  const handle = svg("circle", { r: 10, fill: "var(--mw-orange)", stroke: "var(--mw-bg)", "stroke-width": 2 }, plot);
  const says = html("div", { "aria-live": "polite", style: "margin-top:8px;font-variant-numeric:tabular-nums" }, root);

  const now = () => {
    const [, peak, bandwidth, bytes] = roofs[model.get("roof")];
    return bound(cost(layer(), bytes), peak, bandwidth);
  };
  draggable(handle, {
    label: "the convolution's channels",
    at: () => [xOf(now().intensity), yOf(now().rate)],
    move: (x) => {
      const bytes = roofs[model.get("roof")][3];
      const from = xOf(now().intensity);
      const place = CHANNELS.indexOf(model.get("channels"));
      let next = channelsFor(CHANNELS, layer(), bytes, atX(clamp(x, xOf(X[0]), xOf(X[1]))));
      // A key press is one pixel, which is less than the next choice.
      if (next === model.get("channels") && Math.abs(x - from) >= 1 && Math.abs(x - from) <= 10) {
        next = CHANNELS[clamp(place + Math.sign(x - from), 0, CHANNELS.length - 1)];
      }
      if (next % model.get("groups") === 0) put(model, { channels: next });
    },
  });

  return watch(model, ["channels", "side", "kernel", "groups", "batch", "roof", "memory"], () => {
    const [label, peak, bandwidth, bytes] = roofs[model.get("roof")];
    const ridge = peak / bandwidth;
    set(memory, { d: `M ${xOf(X[0])} ${yOf(X[0] * bandwidth)} L ${xOf(ridge)} ${yOf(peak)}` });
    set(compute, { d: `M ${xOf(ridge)} ${yOf(peak)} H ${xOf(X[1])}` });
    set(peakName, { y: yOf(peak) - 26, text: `compute roof: ${number(peak / 1e9, 0)} billion/s` });
    const way = bytes === 2 ? 2 : model.get("memory") === "channels last" ? 0 : 1;
    model.get("dots").forEach(([, work, numbers, ms], k) => {
      const shown = ms[way] !== null;
      set(marks[k], { visibility: shown ? "visible" : "hidden" });
      if (shown) {
        set(marks[k], {
          cx: xOf(clamp(work / (bytes * numbers), ...X)),
          cy: yOf(clamp(work / (ms[way] / 1e3), ...Y)),
        });
      }
    });
    const b = now();
    const [cx, cy] = [xOf(clamp(b.intensity, ...X)), yOf(clamp(b.rate, ...Y))];
    set(handle, { cx, cy });
    set(drop, { x1: cx, x2: cx, y1: cy, y2: yOf(Y[0]) });
    says.textContent =
      `${large(b.work)} multiply-adds, ${number(b.moved / 1e6, 1)} MB: ${number(b.intensity, 1)} per byte. ` +
      `The ${b.roof} roof sets the time: at least ${time(b.seconds)} in ${label}.`;
    root.dataset.state = `${b.roof}, ${number(b.intensity, 2)} per byte, ${time(b.seconds)}`;
  });
}

export default { render };
