// Click to segment: the prompt encoder and mask decoder of a promptable segmenter, in the page.
//
// The image's embedding was made once, by the encoder, and travels with the widget. What a click
// costs is what runs here: tokens, two blocks of attention, two enlargements, a dot product.

import {
  checkbox, clamp, controls, draggable, html, mount, number, put, select, set, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

export const [BESIDE, ON, TOP_LEFT, BOTTOM_RIGHT] = [0, 1, 2, 3];

/** The number whose bits are those of a float16. */
export function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Tensors by name, of all values in a row. `layout` is a list of [name, shape]. */
export function tensors(layout, values) {
  let start = 0;
  const net = {};
  for (const [name, shape] of layout) {
    const size = shape.reduce((a, b) => a * b, 1);
    net[name] = Float64Array.from(values.slice(start, start + size));
    start += size;
  }
  return net;
}

/** x [rows, in] · Wᵀ + b: [rows, out]. W has the rows of its outputs one after the other. */
function linear(x, rows, weight, bias, relu = false) {
  const outs = bias.length;
  const ins = weight.length / outs;
  const y = new Float64Array(rows * outs);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outs; o++) {
      let sum = bias[o];
      for (let i = 0, a = r * ins, b = o * ins; i < ins; i++) sum += x[a + i] * weight[b + i];
      y[r * outs + o] = relu && sum < 0 ? 0 : sum;
    }
  }
  return y;
}

function layer(net, name, x, rows, relu = false) {
  return linear(x, rows, net[`${name}.weight`], net[`${name}.bias`], relu);
}

function added(a, b) {
  return a.map((v, i) => v + b[i % b.length]);
}

/** Each row to mean 0 and variance 1, then scaled and shifted by channel. */
function normalised(net, name, x) {
  const [weight, bias] = [net[`${name}.weight`], net[`${name}.bias`]];
  const channels = weight.length;
  const y = new Float64Array(x.length);
  for (let r = 0; r < x.length; r += channels) {
    let [mean, square] = [0, 0];
    for (let c = 0; c < channels; c++) mean += x[r + c] / channels;
    for (let c = 0; c < channels; c++) square += (x[r + c] - mean) ** 2 / channels;
    const scale = 1 / Math.sqrt(square + 1e-5);
    for (let c = 0; c < channels; c++) y[r + c] = (x[r + c] - mean) * scale * weight[c] + bias[c];
  }
  return y;
}

/** Attention: q [Q, C] asks, k [L, C] is compared, v [L, C] is read. */
function attention(net, name, heads, channels, q, k, v) {
  const [asks, rows] = [q.length / channels, k.length / channels];
  const [query, key, value] = [["q", q, asks], ["k", k, rows], ["v", v, rows]].map(
    ([part, x, count]) => layer(net, `${name}.${part}`, x, count),
  );
  const width = net[`${name}.q.bias`].length;
  const each = width / heads;
  const read = new Float64Array(asks * width);
  const weights = new Float64Array(rows);
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < asks; i++) {
      let highest = -Infinity;
      for (let j = 0; j < rows; j++) {
        let dot = 0;
        for (let c = h * each; c < (h + 1) * each; c++) dot += query[i * width + c] * key[j * width + c];
        weights[j] = dot / Math.sqrt(each);
        if (weights[j] > highest) highest = weights[j];
      }
      let total = 0;
      for (let j = 0; j < rows; j++) total += weights[j] = Math.exp(weights[j] - highest);
      for (let j = 0; j < rows; j++) {
        const share = weights[j] / total;
        for (let c = h * each; c < (h + 1) * each; c++) read[i * width + c] += share * value[j * width + c];
      }
    }
  }
  return layer(net, `${name}.out`, read, asks);
}

/** The code of a position (x, y), shares of the image's sides: sines, then cosines. */
export function code(projection, x, y) {
  const count = projection.length / 2;
  const angles = Array.from(
    { length: count },
    (_, c) => 2 * Math.PI * ((2 * x - 1) * projection[c] + (2 * y - 1) * projection[count + c]),
  );
  return [...angles.map(Math.sin), ...angles.map(Math.cos)];
}

/** The error function, to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
export function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const gelu = (x) => x.map((v) => 0.5 * v * (1 + erf(v / Math.SQRT2)));

/** A 2 × 2 convolution with stride 2 of a map [side², channels]: [(side / 2)², out]. */
function halved(net, name, x, side, channels) {
  const small = side / 2;
  const patches = new Float64Array(small * small * channels * 4);
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      const row = (i >> 1) * small + (j >> 1);
      for (let c = 0; c < channels; c++) {
        patches[(row * channels + c) * 4 + 2 * (i & 1) + (j & 1)] = x[(i * side + j) * channels + c];
      }
    }
  }
  return layer(net, name, patches, small * small);
}

/** A 2 × 2 transposed convolution with stride 2 of a map [side², in]: [(2 side)², out]. */
function doubled(net, name, x, side) {
  const [weight, bias] = [net[`${name}.weight`], net[`${name}.bias`]]; // [in, out, 2, 2], [out]
  const outs = bias.length;
  const ins = weight.length / (4 * outs);
  const [turned, four] = [new Float64Array(weight.length), new Float64Array(4 * outs)];
  for (let o = 0; o < 4 * outs; o++) {
    four[o] = bias[o >> 2];
    for (let i = 0; i < ins; i++) turned[o * ins + i] = weight[i * 4 * outs + o];
  }
  const flat = linear(x, side * side, turned, four);
  const y = new Float64Array(flat.length);
  for (let i = 0; i < 2 * side; i++) {
    for (let j = 0; j < 2 * side; j++) {
      const from = ((i >> 1) * side + (j >> 1)) * 4 * outs + 2 * (i & 1) + (j & 1);
      for (let o = 0; o < outs; o++) y[(i * 2 * side + j) * outs + o] = flat[from + 4 * o];
    }
  }
  return y;
}

function mlp(net, name, x, rows) {
  const hidden = layer(net, `${name}.2`, layer(net, `${name}.0`, x, rows, true), rows, true);
  return layer(net, `${name}.4`, hidden, rows);
}

/**
 * Masks and scores: {logits: [masks][M²], scores: [masks]}.
 *
 * `cells` [side², C] and `fine` [(2 side)², C'] are the image's embedding, cell after cell. `points`
 * are [x, y, label] with x and y as shares; `mask` is the last answer's logits [M²], or null.
 */
export function answer(net, heads, cells, fine, points, mask = null) {
  const kinds = net["prompt_encoder.kinds.weight"];
  const channels = net["prompt_encoder.no_mask"].length;
  const side = Math.sqrt(cells.length / channels);
  const projection = net["prompt_encoder.position.projection"];
  const asked = Float64Array.from([
    ...net["mask_decoder.answers.weight"],
    ...points.flatMap(([x, y, label]) =>
      code(projection, x, y).map((v, c) => v + kinds[label * channels + c]),
    ),
  ]);
  const count = asked.length / channels;
  let places = [];
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) places.push(code(projection, (j + 0.5) / side, (i + 0.5) / side));
  }
  places = Float64Array.from(places.flat());

  let image = added(Float64Array.from(cells), net["prompt_encoder.no_mask"]);
  if (mask) {
    let x = gelu(normalised(net, "prompt_encoder.down.1", halved(net, "prompt_encoder.down.0", mask, 4 * side, 1)));
    const few = net["prompt_encoder.down.0.bias"].length;
    x = gelu(normalised(net, "prompt_encoder.down.4", halved(net, "prompt_encoder.down.3", x, 2 * side, few)));
    image = added(Float64Array.from(cells), layer(net, "prompt_encoder.down.6", x, side * side));
  }

  let tokens = asked;
  const look = (name, q, k, v) => attention(net, name, heads, channels, q, k, v);
  for (let b = 0; `mask_decoder.transformer.blocks.${b}.mlp.0.bias` in net; b++) {
    const block = `mask_decoder.transformer.blocks.${b}`;
    const q = added(tokens, asked);
    tokens = normalised(net, `${block}.norms.0`, added(tokens, look(`${block}.among`, q, q, tokens)));
    const seen = look(`${block}.to_image`, added(tokens, asked), added(image, places), image);
    tokens = normalised(net, `${block}.norms.1`, added(tokens, seen));
    const hidden = layer(net, `${block}.mlp.0`, tokens, count, true);
    tokens = normalised(net, `${block}.norms.2`, added(tokens, layer(net, `${block}.mlp.2`, hidden, count)));
    const told = look(`${block}.to_tokens`, added(image, places), added(tokens, asked), tokens);
    image = normalised(net, `${block}.norms.3`, added(image, told));
  }
  const last = look("mask_decoder.transformer.last", added(tokens, asked), added(image, places), image);
  tokens = normalised(net, "mask_decoder.transformer.norm", added(tokens, last));

  const relu = (x) => x.map((v) => Math.max(0, v));
  let x = relu(normalised(net, "mask_decoder.norm", added(doubled(net, "mask_decoder.up", image, side), fine)));
  x = relu(doubled(net, "mask_decoder.upper", x, 2 * side));
  const width = net["mask_decoder.upper.bias"].length;
  const masks = net["mask_decoder.score.4.bias"].length;
  const logits = Array.from({ length: masks }, (_, m) => {
    const weight = mlp(net, `mask_decoder.weights.${m}`, tokens.slice((1 + m) * channels, (2 + m) * channels), 1);
    return Array.from(linear(x, x.length / width, weight, new Float64Array(1)));
  });
  return { logits, scores: Array.from(mlp(net, "mask_decoder.score", tokens.slice(0, channels), 1)) };
}

/** Which masks may answer: all but the first if there is one point, else the first alone. */
export function eligible(points, masks) {
  return points.length > 1 || masks === 1 ? [0] : Array.from({ length: masks - 1 }, (_, m) => m + 1);
}

/** Of the masks that may answer, the one with the highest score. */
export function best(scores, points) {
  return eligible(points, scores.length).reduce((a, b) => (scores[b] > scores[a] ? b : a));
}

/** Logits [M²] at another size [size²], bilinear, half pixels as in PyTorch. */
export function resized(logits, size) {
  const side = Math.sqrt(logits.length);
  const taps = Array.from({ length: size }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * side) / size - 0.5);
    const low = Math.floor(at);
    return [low, Math.min(low + 1, side - 1), at - low];
  });
  return taps.flatMap(([top, bottom, down]) =>
    taps.map(([left, right, across]) => {
      const upper = logits[top * side + left] * (1 - across) + logits[top * side + right] * across;
      const lower = logits[bottom * side + left] * (1 - across) + logits[bottom * side + right] * across;
      return upper * (1 - down) + lower * down;
    }),
  );
}

/** The rounds of prompts: first the box or the first click, then one click more each time. */
export function rounds(points, box) {
  const first = box ? [[box[0], box[1], TOP_LEFT], [box[2], box[3], BOTTOM_RIGHT]] : points.slice(0, 1);
  const rest = box ? points : points.slice(1);
  return [first, ...rest.map((_, i) => [...first, ...rest.slice(0, i + 1)])];
}

// ---------------------------------------------------------------- view

const EDGE = [255, 255, 255];
const DOTS = { [ON]: "#009e73", [BESIDE]: "#d55e00" };
const MOST = 6;

/** A picture that is clear in the mask, dark beside it, with a line where the mask ends. */
function overlay(logits, size) {
  const canvas = html("canvas", { width: size, height: size });
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const beside = (k, x) =>
    (x > 0 && !(logits[k - 1] > 0)) || (x < size - 1 && !(logits[k + 1] > 0)) ||
    (k >= size && !(logits[k - size] > 0)) || (k + size < logits.length && !(logits[k + size] > 0));
  logits.forEach((v, k) => {
    if (!(v > 0)) image.data.set([10, 12, 16, 175], 4 * k);
    else if (beside(k, k % size)) image.data.set([...EDGE, 255], 4 * k);
  });
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

function view16({ buffer, byteOffset, byteLength }) {
  return Array.from(new Uint16Array(buffer.slice(byteOffset, byteOffset + byteLength)), half);
}

function render({ model, el }) {
  const root = mount(el, "click_segment");
  const net = tensors(model.get("shapes"), view16(model.get("weights")));
  const [channels, few] = model.get("channels");
  const pictures = model.get("pictures");
  const size = model.get("size");
  const bar = controls(root);
  select(bar, model, "picture", "picture", pictures.map((_, i) => [i, String(i + 1)]));
  select(bar, model, "adds", "a press adds a click", [[ON, "on the object"], [BESIDE, "beside it"]]);
  checkbox(bar, model, "boxed", "box");
  const button = (text, act) => {
    const element = html("button", { type: "button", text, style: "font: inherit" }, html("span", { class: "mw-control" }, bar));
    element.addEventListener("click", act);
    return element;
  };
  button("take back", () => put(model, { points: model.get("points").slice(0, -1) }));
  button("start again", () => put(model, { points: model.get("first")[model.get("picture")], mask: -1 }));

  const panels = html("div", { style: "display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start" }, root);
  const canvas = svg("svg", {
    viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "picture with the chosen mask",
    style: "flex:1 1 300px;min-width:0;max-width:440px;cursor:crosshair",
  }, panels);
  const photo = svg("image", { width: size, height: size }, canvas);
  const mask = svg("image", { width: size, height: size }, canvas);
  const marks = svg("g", {}, canvas);
  const side = html("div", { style: "flex:1 1 190px;display:flex;flex-wrap:wrap;gap:8px" }, panels);
  const says = html("div", { "aria-live": "polite", style: "flex-basis:100%" }, side);
  const cards = Array.from({ length: net["mask_decoder.score.4.bias"].length }, (_, m) => card(side, model, m, size));

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return; // a press on a mark does not come here
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(canvas.getScreenCTM().inverse());
    add(at.x, at.y);
  });
  const add = (x, y) => {
    const points = model.get("points");
    if (points.length >= MOST || x < 0 || y < 0 || x > size || y > size) return;
    put(model, { points: [...points, [x, y, model.get("adds")]], mask: -1 });
  };
  model.on("change:picture", () => {
    const index = model.get("picture");
    put(model, { points: model.get("first")[index], box: model.get("boxes")[index], mask: -1 });
  });

  // Elements stay while they are dragged: they are made again only when their number changes.
  let dots = [];
  let frame = null;
  const makeMarks = () => {
    const points = model.get("points");
    if (dots.length === points.length && Boolean(frame) === model.get("boxed")) return;
    marks.replaceChildren();
    frame = model.get("boxed") ? boxMarks(marks, model, size) : null;
    dots = points.map((_, i) => {
      const dot = svg("circle", { r: size / 45, stroke: "#fff", "stroke-width": size / 120 }, marks);
      return draggable(dot, {
        label: `click ${i + 1}`,
        at: () => model.get("points")[i].slice(0, 2),
        move: (x, y) => {
          const next = model.get("points").map((p) => [...p]);
          next[i] = [clamp(x, 0, size), clamp(y, 0, size), next[i][2]];
          put(model, { points: next });
        },
      });
    });
  };

  const embedding = remembered((index) => {
    const all = model.get("embeddings");
    const scales = model.get("scales")[index];
    const each = all.byteLength / pictures.length;
    const bytes = new Int8Array(all.buffer.slice(all.byteOffset + index * each, all.byteOffset + (index + 1) * each));
    const cells = (each * channels) / (channels + 4 * few);
    return [
      Float64Array.from(bytes.subarray(0, cells), (v, k) => v * scales[k % channels]),
      Float64Array.from(bytes.subarray(cells), (v, k) => v * scales[channels + (k % few)]),
    ];
  });
  const replies = remembered((key) => {
    const [index, points] = JSON.parse(key);
    const [cells, fine] = embedding(index);
    const before = points.length > 1 && points[points.length - 1][2] <= ON ? points.slice(0, -1) : [];
    const last = before.length ? replies(JSON.stringify([index, before])) : null;
    const handed = last && last.logits[best(last.scores, before)];
    return answer(net, model.get("heads"), cells, fine, points, handed);
  });

  return watch(model, ["picture", "points", "box", "boxed", "mask"], () => {
    makeMarks();
    const index = model.get("picture");
    set(photo, { href: pictures[index] });
    const points = model.get("points").map(([x, y, label]) => [x / size, y / size, label]);
    dots.forEach((dot, i) => {
      const [x, y, label] = model.get("points")[i];
      set(dot, { cx: x, cy: y, fill: DOTS[label] });
    });
    const box = model.get("boxed") ? model.get("box").map((v) => v / size) : null;
    if (frame) frame(model.get("box"));
    if (!points.length && !box) {
      set(mask, { href: null });
      for (const each of cards) each.hide();
      says.textContent = "Press on an object.";
      root.dataset.state = "no prompt";
      return;
    }
    const prompt = rounds(points, box).at(-1);
    const { logits, scores } = replies(JSON.stringify([index, prompt]));
    const allowed = eligible(prompt, scores.length);
    const chosen = allowed.includes(model.get("mask")) ? model.get("mask") : best(scores, prompt);
    cards.forEach((each, m) => {
      if (allowed.includes(m)) each.show(pictures[index], resized(logits[m], size), scores[m], m === chosen);
      else each.hide();
    });
    const shown = resized(logits[chosen], size);
    set(mask, { href: overlay(shown, size) });
    const area = shown.filter((v) => v > 0).length;
    says.textContent = allowed.length > 1
      ? "One click has three answers; the one that is scored best is shown. Choose another:"
      : `${prompt.length} points, one answer:`;
    root.dataset.state = `mask ${chosen}, score ${number(scores[chosen])}, ${area} pixels`;
  });
}

/** A function that keeps its last few results. */
function remembered(make) {
  const known = new Map();
  return (key) => {
    if (!known.has(key)) {
      const made = make(key);
      if (known.size > 40) known.delete(known.keys().next().value);
      known.set(key, made);
    }
    return known.get(key);
  };
}

/** A small picture of one answer, with its score; a press chooses it. */
function card(parent, model, index, size) {
  const element = html("button", {
    type: "button", style: "font:inherit;color:inherit;background:var(--mw-panel);padding:3px;width:96px;border-radius:4px",
  }, parent);
  const canvas = svg("svg", { viewBox: `0 0 ${size} ${size}` }, element);
  const photo = svg("image", { width: size, height: size }, canvas);
  const mask = svg("image", { width: size, height: size }, canvas);
  const text = html("span", { style: "font-variant-numeric:tabular-nums" }, element);
  element.addEventListener("click", () => put(model, { mask: index }));
  return {
    hide: () => (element.style.display = "none"),
    show: (picture, logits, score, chosen) => {
      element.style.display = "";
      element.style.border = `2px solid ${chosen ? "var(--mw-green)" : "var(--mw-line)"}`;
      set(photo, { href: picture });
      set(mask, { href: overlay(logits, size) });
      set(text, { text: `score ${number(score)}` });
      set(element, { "aria-pressed": String(chosen) });
    },
  };
}

/** The box and its two corners; returns what moves them. */
function boxMarks(parent, model, size) {
  const rect = svg("rect", { fill: "none", stroke: "#0072b2", "stroke-width": size / 90, "pointer-events": "none" }, parent);
  const corners = [0, 1].map((k) => {
    const dot = svg("rect", { width: size / 24, height: size / 24, fill: "#0072b2", stroke: "#fff", "stroke-width": size / 120 }, parent);
    return draggable(dot, {
      label: k ? "bottom right corner" : "top left corner",
      at: () => model.get("box").slice(2 * k, 2 * k + 2),
      move: (x, y) => {
        const box = [...model.get("box")];
        const least = 3;
        box[2 * k] = k ? clamp(x, box[0] + least, size) : clamp(x, 0, box[2] - least);
        box[2 * k + 1] = k ? clamp(y, box[1] + least, size) : clamp(y, 0, box[3] - least);
        put(model, { box });
      },
    });
  });
  return ([x1, y1, x2, y2]) => {
    set(rect, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    [[x1, y1], [x2, y2]].forEach(([x, y], k) => set(corners[k], { x: x - size / 48, y: y - size / 48 }));
  };
}

export default { render };
