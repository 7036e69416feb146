// What every widget shares: page elements, drag, keyboard, controls, colours, numbers.
//
// A widget's own file begins with `import { … } from "./_core.js";`. The two are joined into one
// module when the widget is made (common.py: bundle), because a notebook carries one text.
// Colours are the CSS variables of _core.css, which follow the page's theme.

const SVG = "http://www.w3.org/2000/svg";

// ---------------------------------------------------------------- elements

/** Set attributes; null removes one, "text" is the content. */
export function set(element, attributes = {}) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (value === null) element.removeAttribute(key);
    else element.setAttribute(key, value);
  }
  return element;
}

/** A new HTML element, appended to `parent` where one is given. */
export function html(tag, attributes = {}, parent = null) {
  const element = set(document.createElement(tag), attributes);
  if (parent) parent.append(element);
  return element;
}

/** A new SVG element, appended to `parent` where one is given. */
export function svg(tag, attributes = {}, parent = null) {
  const element = set(document.createElementNS(SVG, tag), attributes);
  if (parent) parent.append(element);
  return element;
}

/** The root of a widget inside `el`. Tests find it by its name and read its data-state. */
export function mount(el, name) {
  // JupyterLab would take the arrow keys for itself (previous cell, next cell).
  return html("div", { class: "mw", "data-widget": name, "data-lm-suppress-shortcuts": "true" }, el);
}

/** A row for controls. */
export function controls(root) {
  return html("div", { class: "mw-controls" }, root);
}

// ---------------------------------------------------------------- state

/** Write traits and send them to the kernel, if there is one. */
export function put(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/** Call `draw` now, and once a frame after any of the traits changed. Returns what stops it. */
export function watch(model, names, draw) {
  let frame = 0;
  const run = () => {
    frame = 0;
    draw();
  };
  const later = () => {
    frame ||= requestAnimationFrame(run);
  };
  for (const name of names) model.on(`change:${name}`, later);
  draw();
  return () => {
    cancelAnimationFrame(frame);
    for (const name of names) model.off(`change:${name}`, later);
  };
}

/** A bytes trait that holds little-endian float32 numbers. */
export function floats(bytes) {
  const { buffer, byteOffset, byteLength } = bytes;
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

// ---------------------------------------------------------------- controls, each bound to a trait

let nextId = 0;

function labelled(bar, label) {
  const id = `mw-${nextId++}`;
  const box = html("span", { class: "mw-control" }, bar);
  html("label", { for: id, text: label }, box);
  return { id, box };
}

function bind(model, trait, show) {
  model.on(`change:${trait}`, show);
  show();
}

/** A list of choices. `options` is a list of values, or of [value, text]. */
export function select(bar, model, trait, label, options) {
  const { id, box } = labelled(bar, label);
  const element = html("select", { id }, box);
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, String(option)]));
  for (const [, text] of pairs) html("option", { text }, element);
  element.addEventListener("change", () => put(model, { [trait]: pairs[element.selectedIndex][0] }));
  bind(model, trait, () => {
    element.selectedIndex = pairs.findIndex(([value]) => value === model.get(trait));
  });
  return element;
}

/** A slider with its value beside it. `format` turns the value into text. */
export function slider(bar, model, trait, label, { min, max, step = 1, format = String }) {
  const { id, box } = labelled(bar, label);
  const element = html("input", { id, type: "range", min, max, step }, box);
  const value = html("output", { for: id }, box);
  element.addEventListener("input", () => put(model, { [trait]: Number(element.value) }));
  bind(model, trait, () => {
    element.value = model.get(trait);
    value.textContent = format(model.get(trait));
  });
  return element;
}

/** A box to tick. */
export function checkbox(bar, model, trait, label) {
  const { id, box } = labelled(bar, label);
  const element = html("input", { id, type: "checkbox" });
  box.prepend(element);
  element.addEventListener("change", () => put(model, { [trait]: element.checked }));
  bind(model, trait, () => {
    element.checked = Boolean(model.get(trait));
  });
  return element;
}

// ---------------------------------------------------------------- drag and keys

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Let an SVG element be dragged with mouse, pen or finger, and moved with the arrow keys.
 *
 * Coordinates are those of the element's parent, so inside a scaled group they are the data's.
 * `at()` returns [x, y] now; `move(x, y)` takes the new place (and may clamp it). `step` is one
 * press of an arrow key, `big` one with Shift. `label` is what a screen reader says.
 */
export function draggable(element, { at, move, label, step = 1, big = 10 }) {
  set(element, { "data-drag": label, tabindex: 0, role: "button", "aria-label": label });
  element.style.touchAction = "none"; // else a finger scrolls the page
  let grip = null;
  const place = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY);
    const { x, y } = point.matrixTransform(element.parentNode.getScreenCTM().inverse());
    return [x, y];
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const [x, y] = place(event);
    const [x0, y0] = at();
    grip = [x - x0, y - y0];
    element.setPointerCapture(event.pointerId);
    element.focus({ preventScroll: true });
    event.preventDefault();
    event.stopPropagation();
  });
  element.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const [x, y] = place(event);
    move(x - grip[0], y - grip[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, () => {
      grip = null;
    });
  }
  element.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    const [x, y] = at();
    const length = event.shiftKey ? big : step;
    move(x + arrow[0] * length, y + arrow[1] * length);
    event.preventDefault();
    event.stopPropagation();
  });
  return element;
}

// ---------------------------------------------------------------- size and theme

/** Call `draw(width)` now and whenever the root's width changes. Returns what stops it. */
export function onResize(root, draw) {
  let last = 0;
  const observer = new ResizeObserver(() => {
    const style = getComputedStyle(root);
    const width = root.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (width > 0 && width !== last) draw((last = width));
  });
  observer.observe(root);
  return () => observer.disconnect();
}

/** Call `draw` when the page turns dark or light: only a canvas needs it. Returns what stops it. */
export function onTheme(draw) {
  const observer = new MutationObserver(draw);
  observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  observer.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", draw);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", draw);
  };
}

/** The colour that a CSS variable has now, for canvas: colour(root, "--mw-blue"). */
export function colour(root, variable) {
  return getComputedStyle(root).getPropertyValue(variable).trim();
}

// ---------------------------------------------------------------- numbers and pictures

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** A number as text: a real minus sign, and no minus zero. */
export function number(value, digits = 2) {
  if (!Number.isFinite(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

// Nine colours of viridis, dark to light, as in the course's figures.
const SHADES = [
  [68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140],
  [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37],
];

/** The colour [r, g, b] of a value between 0 and 1. */
export function shade(value) {
  const place = clamp(value, 0, 1) * (SHADES.length - 1);
  const index = Math.min(Math.floor(place), SHADES.length - 2);
  const part = place - index;
  return SHADES[index].map((c, k) => Math.round(c + part * (SHADES[index + 1][k] - c)));
}

/** The same in greys, where coloured lines are to be seen on top: 0 is dark, 1 nearly white. */
export function grey(value) {
  return Array(3).fill(Math.round(45 + 205 * clamp(value, 0, 1)));
}

/** A colour [r, g, b] as CSS. */
export function css([r, g, b]) {
  return `rgb(${r} ${g} ${b})`;
}

/** Black or white, whichever reads better on a colour [r, g, b]. */
export function inkOn([r, g, b]) {
  return 0.3 * r + 0.59 * g + 0.11 * b > 130 ? "#000000" : "#ffffff";
}

/** The smallest and the largest of many numbers. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Where a value lies between low and high: 0 to 1. */
export function fraction(value, [low, high]) {
  return high > low ? (value - low) / (high - low) : 0.5;
}

/** A picture (data URL) of `height` × `width` values, row by row, one pixel each. */
export function picture(values, height, width, { range = extent(values), colours = shade } = {}) {
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let k = 0; k < height * width; k++) {
    image.data.set([...colours(fraction(values[k], range)), 255], 4 * k);
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}
