import { checkbox, clamp, controls, draggable, html, mount, number, onResize, put, select, set, slider, svg, watch } from "./_core.js";

// ---------------------------------------------------------------- arithmetic

const MASK_CHANNELS = 256;
const JOINTS = 17;
const DETECTIONS = 100;

/** The next multiple of 32. */
export function up(pixels) {
  return Math.ceil(pixels / 32) * 32;
}

/** Weights and multiply-adds of a convolution with an output of `cells` cells. */
function conv(cells, cin, cout, kernel, { groups = 1, bias = false } = {}) {
  const weights = (cout * cin * kernel * kernel) / groups;
  return [weights + (bias ? cout : 0), weights * cells];
}

function sum(parts) {
  return parts.reduce(([p, m], [q, n]) => [p + q, m + n], [0, 0]);
}

/** One residual stage on a map that comes in with `cells` cells; the stride is in the 3×3 (torchvision) or the 1×1. */
function stage(plan, index, cells, first1x1) {
  const [cout, width] = [plan.channels[index], plan.widths[index]];
  let cin = index ? plan.channels[index - 1] : 64;
  const parts = [];
  for (let block = 0; block < plan.depths[index]; block++) {
    const halves = block === 0 && index > 0;
    const after = halves ? cells / 4 : cells;
    parts.push(conv(first1x1 ? after : cells, cin, width, 1));
    parts.push(conv(after, width, width, 3, { groups: plan.groups }));
    parts.push(conv(after, width, cout, 1));
    if (cin !== cout) parts.push(conv(after, cin, cout, 1));
    [cin, cells] = [cout, after];
  }
  return sum(parts);
}

/** Parts of a model: [name, parameters, multiply-adds] of each, for one image. */
export function count({ plan, neck, masks, keypoints, classes, side, proposals }) {
  const area = up(side) * up((side * 4) / 3);
  const cells = [4, 8, 16, 32].map((stride) => area / (stride * stride));
  const fpn = neck === "fpn";
  const stages = (fpn ? [0, 1, 2, 3] : [0, 1, 2]).map((i) => stage(plan, i, i ? cells[i - 1] : cells[0], false));
  const parts = [["backbone", ...sum([conv(area / 4, 3, 64, 7), ...stages])]];
  const channels = fpn ? 256 : plan.channels[2];
  const res5 = stage(plan, 3, 196, false); // of one RoI: 14 × 14 goes in
  if (fpn) {
    const levels = plan.channels.map((c, i) => sum([
      conv(cells[i], c, 256, 1, { bias: true }),
      conv(cells[i], 256, 256, 3, { bias: true }),
    ]));
    parts.push(["pyramid", ...sum(levels)]);
  }
  const p6 = Math.ceil(up(side) / 64) * Math.ceil(up((side * 4) / 3) / 64);
  const seen = fpn ? cells.reduce((a, b) => a + b, 0) + p6 : cells[2];
  const anchors = fpn ? 3 : 15;
  parts.push(["RPN", ...sum([
    conv(seen, channels, channels, 3, { bias: true }),
    conv(seen, channels, 5 * anchors, 1, { bias: true }),
  ])]);
  const outputs = classes + 1 + 4 * classes;
  const fc = (cin, cout) => conv(1, cin, cout, 1, { bias: true });
  const box = fpn ? sum([fc(256 * 49, 1024), fc(1024, 1024), fc(1024, outputs)]) : sum([res5, fc(2048, outputs)]);
  parts.push(["box head", box[0], box[1] * proposals]);
  if (masks) {
    const own = fpn
      ? sum([
        ...Array(4).fill(conv(196, 256, 256, 3, { bias: true })),
        [256 * 256 * 4 + 256, 256 * 256 * 4 * 196],
        conv(784, MASK_CHANNELS, classes, 1, { bias: true }),
      ])
      : sum([[2048 * 256 * 4 + 256, 2048 * 256 * 4 * 49], conv(196, MASK_CHANNELS, classes, 1, { bias: true })]);
    parts.push(["mask head", own[0], (own[1] + (fpn ? 0 : res5[1])) * DETECTIONS]);
  }
  if (keypoints && fpn) {
    const own = sum([
      conv(196, 256, 512, 3, { bias: true }),
      ...Array(7).fill(conv(196, 512, 512, 3, { bias: true })),
      [512 * JOINTS * 16 + JOINTS, 512 * JOINTS * 16 * 196],
    ]);
    parts.push(["keypoint head", own[0], own[1] * DETECTIONS]);
  }
  return parts;
}

/** A count as text: 44.4 M, 226 G. */
export function short(value) {
  if (value >= 1e9) return `${number(value / 1e9, value >= 1e11 ? 0 : 1)} G`;
  return `${number(value / 1e6, 1)} M`;
}

// ---------------------------------------------------------------- the page

const PAINT = {
  backbone: "var(--mw-blue)", pyramid: "var(--mw-sky)", RPN: "var(--mw-green)",
  "box head": "var(--mw-orange)", "mask head": "var(--mw-red)", "keypoint head": "var(--mw-purple)",
};
// Where the parts stand, and the axis of the image's size: beside each other, or on a narrow page below.
const WIDE = {
  box: "0 0 720 262",
  places: {
    backbone: [10, 70], pyramid: [190, 70], RPN: [370, 10],
    "box head": [550, 10], "mask head": [550, 78], "keypoint head": [550, 146],
  },
  axis: [120, 680, 232],
};
const NARROW = {
  box: "0 0 350 352",
  places: {
    backbone: [5, 10], pyramid: [5, 98], RPN: [5, 190],
    "box head": [190, 190], "mask head": [190, 98], "keypoint head": [190, 10],
  },
  axis: [95, 335, 300],
};
const TRAITS = ["backbone", "neck", "masks", "keypoints", "classes", "side", "proposals"];
const [LOW, HIGH] = [320, 1024]; // short sides

function render({ model, el }) {
  const root = mount(el, "constructor");
  const bar = controls(root);
  const plans = model.get("plans");
  select(bar, model, "backbone", "backbone", Object.keys(plans).map((key) => [key, plans[key].name]));
  select(bar, model, "neck", "neck", [["fpn", "pyramid"], ["c4", "C4"]]);
  checkbox(bar, model, "masks", "masks");
  const joints = checkbox(bar, model, "keypoints", "keypoints");
  slider(bar, model, "classes", "classes", { min: 1, max: 200 });
  slider(bar, model, "proposals", "proposals", { min: 100, max: 2000, step: 100 });

  let layout = WIDE;
  const canvas = svg("svg", { role: "img", "aria-label": "The parts of the model" }, root);
  const lines = svg("g", { stroke: "var(--mw-muted)", "stroke-width": 1.5, fill: "none" }, canvas);
  const boxes = Object.fromEntries(Object.keys(WIDE.places).map((name) => [name, part(canvas, name)]));
  const axis = svg("line", { stroke: "var(--mw-line)", "stroke-width": 4 }, canvas);
  const name = svg("text", { x: 8, "font-size": 13, text: "short side" }, canvas);
  const size = svg("text", { "font-size": 13, "text-anchor": "middle" }, canvas);
  const knob = svg("circle", { r: 11, fill: "var(--mw-blue)", stroke: "#fff", "stroke-width": 2 }, canvas);
  const at = (side) => layout.axis[0] + ((side - LOW) / (HIGH - LOW)) * (layout.axis[1] - layout.axis[0]);
  draggable(knob, {
    label: "short side of the image",
    step: 18, // at least one multiple of 32 in either layout
    big: 72,
    at: () => [at(model.get("side")), layout.axis[2]],
    move: (x) => {
      const [left, right] = layout.axis;
      const pixels = LOW + ((clamp(x, left, right) - left) / (right - left)) * (HIGH - LOW);
      put(model, { side: Math.round(pixels / 32) * 32 });
    },
  });
  const total = html("p", { style: "margin: 8px 0 0; font-weight: 600; font-variant-numeric: tabular-nums" }, root);

  const draw = () => {
    set(canvas, { viewBox: layout.box });
    const [left, right, y] = layout.axis;
    set(axis, { x1: left, x2: right, y1: y, y2: y });
    set(name, { y: y + 5 });
    const choice = Object.fromEntries(TRAITS.map((trait) => [trait, model.get(trait)]));
    const fpn = choice.neck === "fpn";
    joints.disabled = !fpn;
    const found = count({ ...choice, plan: plans[choice.backbone] });
    const all = found.reduce((a, [, , m]) => a + m, 0);
    const there = Object.fromEntries(found.map(([name, p, m]) => [name, { p, m }]));
    for (const [name, each] of Object.entries(boxes)) {
      each.root.style.display = there[name] ? "" : "none";
      set(each.root, { transform: `translate(${layout.places[name].join(" ")})` });
      if (there[name]) each.show(name === "backbone" ? plans[choice.backbone].name : name, there[name], all, fpn);
    }
    lines.replaceChildren();
    const arrow = (from, to) => {
      const [[x1, y1], [x2, y2]] = [layout.places[from], layout.places[to]];
      const below = x2 <= x1; // on a narrow page
      const d = below
        ? `M${x1 + 75} ${y1 + 58} L${x2 + 75} ${y2}`
        : `M${x1 + 150} ${y1 + 28} C${x1 + 170} ${y1 + 28} ${x2 - 20} ${y2 + 28} ${x2} ${y2 + 28}`;
      svg("path", { d }, lines);
    };
    const reads = fpn ? "pyramid" : "backbone";
    if (fpn) arrow("backbone", "pyramid");
    arrow(reads, "RPN");
    arrow("RPN", "box head");
    for (const head of ["mask head", "keypoint head"]) if (there[head]) arrow(reads, head);
    const [height, width] = [up(choice.side), up((choice.side * 4) / 3)];
    set(knob, { cx: at(choice.side), cy: y });
    set(size, { x: clamp(at(choice.side), left + 20, right - 30), y: y + 27, text: `${height} × ${width}` });
    const parameters = found.reduce((a, [, p]) => a + p, 0);
    total.textContent = `${short(parameters)} parameters · ${short(all)} multiply-adds`;
    root.dataset.state = `${Object.keys(there).join(", ")}: ${short(parameters)}, ${short(all)}`;
  };
  const stop = [
    watch(model, TRAITS, draw),
    onResize(root, (width) => {
      layout = width < 520 ? NARROW : WIDE;
      draw();
    }),
  ];
  return () => stop.forEach((end) => end());
}

/** A box with a name, parameters, multiply-adds, and a bar for its share of them. */
function part(canvas, name) {
  const root = svg("g", {}, canvas);
  svg("rect", { width: 150, height: 58, rx: 6, fill: PAINT[name], "fill-opacity": 0.18, stroke: PAINT[name], "stroke-width": 1.5 }, root);
  const title = svg("text", { x: 8, y: 18, "font-size": 13, "font-weight": 600 }, root);
  const costs = svg("text", { x: 8, y: 36, "font-size": 12 }, root);
  const bar = svg("rect", { x: 8, y: 44, height: 7, fill: PAINT[name] }, root);
  return {
    root,
    show(text, { p, m }, all) {
      set(title, { text });
      set(costs, { text: `${short(p)} · ${short(m)}` });
      set(bar, { width: Math.max(1, (134 * m) / all) });
    },
  };
}

export default { render };
