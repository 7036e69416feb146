import { checkbox, clamp, controls, draggable, html, mount, number, put, select, set, svg, watch } from "./_core.js";

// ---------------------------------------------------------------- arithmetic

export const WEIGHTS = { "1, 1, 1, 1": [1, 1, 1, 1], "10, 10, 5, 5": [10, 10, 5, 5] };

/** Area of a box; plus = 1 is the old convention, width x2 − x1 + 1. */
export function area([x1, y1, x2, y2], plus = 0) {
  return (x2 - x1 + plus) * (y2 - y1 + plus);
}

/** The box that two boxes share, [x1, y1, x2, y2]; it runs backwards where they share none. */
export function shared(a, b) {
  return [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
}

/** The area that two boxes share. */
export function intersection(a, b, plus = 0) {
  const [x1, y1, x2, y2] = shared(a, b);
  return Math.max(0, x2 - x1 + plus) * Math.max(0, y2 - y1 + plus);
}

/** Intersection over union; 0 where the union is empty. */
export function iou(a, b, plus = 0) {
  const both = intersection(a, b, plus);
  const union = area(a, plus) + area(b, plus) - both;
  return union > 0 ? both / union : 0;
}

/** [dx, dy, dw, dh] that turn the anchor into the box, times the weights. */
export function encode(box, anchor, weights = [1, 1, 1, 1]) {
  const [w, h] = [box[2] - box[0], box[3] - box[1]];
  const [wa, ha] = [anchor[2] - anchor[0], anchor[3] - anchor[1]];
  const dx = (box[0] + w / 2 - anchor[0] - wa / 2) / wa;
  const dy = (box[1] + h / 2 - anchor[1] - ha / 2) / ha;
  return [dx, dy, Math.log(w / wa), Math.log(h / ha)].map((d, k) => d * weights[k]);
}

/** The box with its first corner at (x, y), kept inside the image. */
export function moved(box, x, y, width, height) {
  const [w, h] = [box[2] - box[0], box[3] - box[1]];
  const left = clamp(x, 0, width - w);
  const top = clamp(y, 0, height - h);
  return [left, top, left + w, top + h];
}

/** The box with corner 0 (top left) or 1 (bottom right) at (x, y); at least `least` a side. */
export function stretched(box, corner, x, y, width, height, least = 4) {
  if (corner === 0) {
    return [clamp(x, 0, box[2] - least), clamp(y, 0, box[3] - least), box[2], box[3]];
  }
  return [box[0], box[1], clamp(x, box[0] + least, width), clamp(y, box[1] + least, height)];
}

// ---------------------------------------------------------------- the page

const BOXES = [
  { trait: "anchor", name: "the anchor", colour: "var(--mw-sky)" },
  { trait: "box", name: "the object", colour: "var(--mw-orange)" },
];
const THIN = { "vector-effect": "non-scaling-stroke" }; // widths in the page's pixels
const QUIET = { "pointer-events": "none" };
const DELTAS = ["dx", "dy", "dw", "dh"];

function render({ model, el }) {
  const root = mount(el, "boxes");
  const [width, height] = [model.get("width"), model.get("height")];
  const bar = controls(root);
  checkbox(bar, model, "whole", "whole pixels");
  checkbox(bar, model, "plus", "show the +1 convention");
  select(bar, model, "weights", "weights", Object.keys(WEIGHTS));
  const row = html("div", { style: "display: flex; flex-wrap: wrap; gap: 16px; align-items: start" }, root);

  const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, style: "flex: 1 1 340px; min-width: 0" }, row);
  svg("image", { href: model.get("image"), width, height }, canvas);
  const overlap = svg("rect", { fill: "var(--mw-sky)", "fill-opacity": 0.45, ...QUIET }, canvas);
  const round = (v) => (model.get("whole") ? Math.round(v) : v);
  const parts = BOXES.map((each) => box(canvas, model, each, round, width, height));
  const arrow = svg("line", { stroke: "#fff", "stroke-width": 2, ...THIN, ...QUIET }, canvas);
  const dots = BOXES.map(({ colour }) => svg("circle", { r: 0.009 * width, fill: colour, stroke: "#fff", ...THIN, ...QUIET }, canvas));
  for (const part of parts) canvas.append(...part.handles); // on top of everything
  const sort = () => {
    // The smaller box lies above, or nobody could grab it inside the other.
    const small = area(model.get("anchor")) < area(model.get("box")) ? 0 : 1;
    canvas.insertBefore(parts[1 - small].body, parts[small].body);
  };
  canvas.addEventListener("pointerup", sort); // not during a drag, which it would end
  sort();

  const panel = html("div", { style: "flex: 1 1 260px; font-variant-numeric: tabular-nums" }, row);
  const score = meter(panel, "IoU");
  const old = meter(panel, "IoU with +1");
  const sums = html("p", { style: "margin: 6px 0 10px; color: var(--mw-muted)" }, panel);
  const bars = DELTAS.map((name) => balance(panel, name));
  const legend = html("p", { style: "margin: 10px 0 0" }, panel);
  for (const { name, colour } of BOXES) {
    html("span", { style: `display: inline-block; width: 12px; height: 12px; background: ${colour}; margin-right: 5px` }, legend);
    html("span", { text: name, style: "margin-right: 16px" }, legend);
  }

  return watch(model, ["anchor", "box", "weights", "whole", "plus"], () => {
    const [anchor, object] = [model.get("anchor"), model.get("box")];
    for (const [k, each] of [anchor, object].entries()) {
      place(parts[k], each);
      set(dots[k], { cx: (each[0] + each[2]) / 2, cy: (each[1] + each[3]) / 2 });
    }
    const middle = (k) => dots.map((dot) => dot.getAttribute(k));
    const [[ax, bx], [ay, by]] = [middle("cx"), middle("cy")];
    set(arrow, { x1: ax, y1: ay, x2: bx, y2: by });
    const [x1, y1, x2, y2] = shared(anchor, object);
    set(overlap, { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) });

    const both = intersection(anchor, object);
    const union = area(anchor) + area(object) - both;
    const value = iou(anchor, object);
    score.show(value);
    old.root.hidden = !model.get("plus");
    old.root.style.display = model.get("plus") ? "flex" : "none";
    old.show(iou(anchor, object, 1));
    sums.textContent = `shared ${number(both, 0)} px², union ${number(union, 0)} px²`;
    const deltas = encode(object, anchor, WEIGHTS[model.get("weights")]);
    const full = Math.max(...WEIGHTS[model.get("weights")]);
    deltas.forEach((delta, k) => bars[k].show(delta, full));
    root.dataset.state = `IoU ${number(value, 3)}, deltas ${deltas.map((d) => number(d)).join(" ")}`;
  });
}

/** A box that can be moved, with a handle at two corners. */
function box(canvas, model, { trait, name, colour }, round, width, height) {
  const body = svg("rect", { fill: colour, "fill-opacity": 0.08, stroke: colour, "stroke-width": 2.5, ...THIN }, canvas);
  draggable(body, {
    label: name,
    at: () => model.get(trait).slice(0, 2),
    move: (x, y) => put(model, { [trait]: moved(model.get(trait), round(x), round(y), width, height) }),
  });
  const handles = [0, 1].map((corner) => {
    const handle = svg("circle", { r: 0.018 * width, fill: colour, stroke: "#fff", "stroke-width": 1.5, ...THIN }, canvas);
    return draggable(handle, {
      label: `${name}, ${corner ? "bottom right" : "top left"} corner`,
      at: () => model.get(trait).slice(2 * corner, 2 * corner + 2),
      move: (x, y) => {
        const next = stretched(model.get(trait), corner, round(x), round(y), width, height);
        put(model, { [trait]: next });
      },
    });
  });
  return { body, handles };
}

function place({ body, handles }, [x1, y1, x2, y2]) {
  set(body, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
  set(handles[0], { cx: x1, cy: y1 });
  set(handles[1], { cx: x2, cy: y2 });
}

/** A name, a bar from 0 to 1, a number. */
function meter(panel, name) {
  const line = html("div", { style: "display: flex; align-items: center; gap: 8px; margin: 3px 0" }, panel);
  html("span", { text: name, style: "width: 7em; white-space: nowrap; font-weight: 600" }, line);
  const track = html("div", { style: "flex: 1; height: 12px; background: var(--mw-panel); border: 1px solid var(--mw-line)" }, line);
  const fill = html("div", { style: "height: 100%; background: var(--mw-green)" }, track);
  const value = html("span", { style: "width: 3.4em; text-align: right; font-weight: 600" }, line);
  return {
    root: line,
    show(number01) {
      fill.style.width = `${100 * number01}%`;
      value.textContent = number(number01, 3);
    },
  };
}

/** A name, a bar that grows left or right from the middle, a number. */
function balance(panel, name) {
  const line = html("div", { style: "display: flex; align-items: center; gap: 8px; margin: 3px 0" }, panel);
  html("span", { text: name, style: "width: 7em" }, line);
  const track = html("div", { style: "flex: 1; height: 12px; position: relative; background: var(--mw-panel); border: 1px solid var(--mw-line)" }, line);
  html("div", { style: "position: absolute; left: 50%; top: -3px; bottom: -3px; width: 1px; background: var(--mw-muted)" }, track);
  const fill = html("div", { style: "position: absolute; top: 0; bottom: 0; background: var(--mw-red)" }, track);
  const value = html("span", { style: "width: 3.4em; text-align: right" }, line);
  return {
    show(delta, full) {
      const part = clamp(delta / full, -1, 1) * 50;
      fill.style.left = `${50 + Math.min(0, part)}%`;
      fill.style.width = `${Math.abs(part)}%`;
      value.textContent = number(delta);
    },
  };
}

export default { render };
