// The stage explorer. Left the image under the chosen stage's data, right what the probe reads.

import {
  clamp, controls, draggable, floats, html, mount, number, onResize, picture, put, select, set, svg,
  watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

/** The cell [row, column] of a map in which a pixel lies. */
export function cellOf(x, y, map) {
  return [
    clamp(Math.floor(y / map.stride), 0, map.height - 1),
    clamp(Math.floor(x / map.stride), 0, map.width - 1),
  ];
}

/** The box of an anchor [x1, y1, x2, y2] moved by deltas [tx, ty, tw, th], weights 1. */
export function decode(anchor, deltas) {
  const w = anchor[2] - anchor[0];
  const h = anchor[3] - anchor[1];
  const limit = Math.log(1000 / 16);
  const cx = anchor[0] + w / 2 + deltas[0] * w;
  const cy = anchor[1] + h / 2 + deltas[1] * h;
  const halfW = (Math.exp(Math.min(deltas[2], limit)) * w) / 2;
  const halfH = (Math.exp(Math.min(deltas[3], limit)) * h) / 2;
  return [cx - halfW, cy - halfH, cx + halfW, cy + halfH];
}

export function contains(box, x, y) {
  return box[0] <= x && x < box[2] && box[1] <= y && y < box[3];
}

/** Index of the smallest box that contains the point, or −1. */
export function smallest(boxes, x, y) {
  let best = -1;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  boxes.forEach((box, i) => {
    if (contains(box, x, y) && (best < 0 || area(box) < area(boxes[best]))) best = i;
  });
  return best;
}

/** The cell [row, column] of a side × side mask, stretched over a box, in which a pixel lies. */
export function maskCell(box, side, x, y) {
  const at = (value, low, high) => clamp(Math.floor(((value - low) / (high - low)) * side), 0, side - 1);
  return [at(y, box[1], box[3]), at(x, box[0], box[2])];
}

// ---------------------------------------------------------------- view

const STAGES = [
  ["image", "1 image"], ["backbone", "2 backbone"], ["pyramid", "3 pyramid"], ["rpn", "4 RPN"],
  ["proposals", "5 proposals"], ["boxes", "6 box head"], ["masks", "7 mask head"],
];
const SAYS = {
  image: "Three numbers a pixel. That is all the machine is given.",
  backbone: "Each cell is a vector. The picture shows its length; the bars are the vector under the probe.",
  pyramid: "Every level now has the same channels, and the fine ones know what the coarse ones know.",
  rpn: "One objectness an anchor; the map shows the best of each cell. Dashed: the anchors of the cell under the probe. Solid: where their deltas move them.",
  proposals: "The best boxes of all levels. Those that contain the probe are bold.",
  boxes: "Each proposal has got a class and a better box. The smallest one under the probe is bold.",
  masks: "For each detection a small square of probabilities, stretched over its box.",
};
// Of the anchors of a cell.
const PAINTS = ["purple", "orange", "sky"].map((n) => `var(--mw-${n})`);

function table(bytes, columns) {
  const values = floats(bytes);
  return Array.from({ length: values.length / columns }, (_, i) =>
    Array.from(values.subarray(columns * i, columns * (i + 1))));
}

function raw(bytes) {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function rgba(height, width, pixel) {
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d");
  const target = context.createImageData(width, height);
  for (let k = 0; k < height * width; k++) target.data.set(pixel(k), 4 * k);
  context.putImageData(target, 0, 0);
  return canvas.toDataURL();
}

/** Where each map begins in the bytes of all maps. */
function starts(maps) {
  let at = 0;
  return maps.map((map) => {
    const here = at;
    at += map.channels * map.height * map.width;
    return here;
  });
}

function norms(values, start, map) {
  const lengths = new Float32Array(map.height * map.width);
  for (let k = 0; k < lengths.length; k++) {
    let sum = 0;
    for (let c = 0; c < map.channels; c++) sum += values[start + k * map.channels + c] ** 2;
    lengths[k] = Math.sqrt(sum);
  }
  return lengths;
}

function render({ model, el }) {
  const root = mount(el, "stages");
  const steps = html("div", { role: "group", "aria-label": "stage" }, root);
  steps.style.cssText = "display:flex;flex-wrap:wrap;gap:4px;margin-bottom:8px";
  const buttons = STAGES.map(([value, text]) => {
    const button = html("button", { type: "button", text }, steps);
    button.addEventListener("click", () => put(model, { stage: value }));
    return button;
  });
  const bar = controls(root);
  const levelBox = select(bar, model, "level", "level", [[0, "stride 4"], [1, "stride 8"], [2, "stride 16"], [3, "stride 32"]]).parentNode;

  const [height, width] = model.get("size");
  const panels = html("div", {}, root);
  panels.style.cssText = "display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start";
  const view = svg("svg", { viewBox: `0 0 ${width} ${height}` }, panels);
  view.style.cssText = "flex:1 1 280px;min-width:0;max-width:460px";
  const side = html("div", { "aria-live": "polite" }, panels);
  side.style.cssText = "flex:1 1 240px;min-width:0";

  const pixels = raw(model.get("image"));
  const photo = rgba(height, width, (k) => [pixels[3 * k], pixels[3 * k + 1], pixels[3 * k + 2], 255]);
  const maps = [...model.get("backbone"), ...model.get("pyramid")];
  const values = raw(model.get("features"));
  const begin = starts(maps);
  const rpn = table(model.get("rpn"), 5);
  const cells = table(model.get("cells"), 4);
  const proposals = table(model.get("proposals"), 5);
  const detections = table(model.get("detections"), 6);
  const masks = raw(model.get("masks"));
  const maskSide = Math.round(Math.sqrt(masks.length / Math.max(1, detections.length)));
  const names = model.get("names");
  const perCell = 3;

  svg("image", { href: photo, width, height }, view);
  const layer = svg("g", { fill: "none" }, view);
  const handle = svg("g", {}, view);
  svg("circle", { r: 6, fill: "transparent", stroke: "#000", "stroke-width": 3 }, handle);
  svg("circle", { r: 6, fill: "rgb(255 255 255 / 25%)", stroke: "#fff", "stroke-width": 1.5 }, handle);
  let shown = 1;

  draggable(handle, {
    label: "probe",
    at: () => model.get("probe"),
    move: (x, y) => put(model, { probe: [clamp(x, 0, width - 0.01), clamp(y, 0, height - 0.01)] }),
    step: 2,
  });

  const frame = ([x1, y1, x2, y2], attributes) =>
    svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, ...attributes }, layer);
  const line = (text) => html("div", { text }, side);
  const colours = model.get("colours");
  const rgbOf = (label) => colours[(label - 1) % colours.length];
  const paintOf = (label) => `rgb(${rgbOf(label).join(" ")})`;

  // The map as a picture over the image; the same one until stage or level changes.
  let cached = ["", ""];
  const overlay = (key, make, map, opacity) => {
    if (cached[0] !== key) cached = [key, make()];
    svg("image", {
      href: cached[1], width: map.width * map.stride, height: map.height * map.stride,
      preserveAspectRatio: "none", opacity,
    }, layer);
  };

  const bars = (map, start, row, column) => {
    const count = map.channels;
    const plot = svg("svg", { viewBox: `0 0 ${count} 40`, preserveAspectRatio: "none" }, side);
    plot.style.cssText = "width:100%;height:90px;background:var(--mw-panel);border-radius:4px;margin:6px 0";
    const offset = start + (row * map.width + column) * count;
    for (let c = 0; c < count; c++) {
      const size = (values[offset + c] / 255) * 40;
      svg("rect", { x: c + 0.1, y: 40 - size, width: 0.8, height: size, fill: "var(--mw-blue)" }, plot);
    }
  };

  const levelStart = (level) => maps.slice(4, 4 + level).reduce((sum, m) => sum + m.height * m.width * perCell, 0);

  const stages = {
    image(x, y) {
      const k = 3 * (Math.floor(y) * width + Math.floor(x));
      const [r, g, b] = pixels.slice(k, k + 3);
      line(`pixel in row ${Math.floor(y)}, column ${Math.floor(x)}`);
      const patch = html("div", {}, side);
      patch.style.cssText = `width:72px;height:72px;border-radius:4px;margin:6px 0;background:rgb(${r} ${g} ${b})`;
      line(`red ${r}, green ${g}, blue ${b}`);
      return "";
    },
    backbone: (x, y) => feature(x, y, "C", 0),
    pyramid: (x, y) => feature(x, y, "P", 4),
    rpn(x, y) {
      const level = model.get("level");
      const map = maps[4 + level];
      const first = levelStart(level);
      overlay(`rpn${level}`, () => {
        const best = Array.from({ length: map.height * map.width }, (_, k) =>
          Math.max(...rpn.slice(first + k * perCell, first + (k + 1) * perCell).map((r) => r[0])));
        return picture(best, map.height, map.width, 0, 1);
      }, map, 0.7);
      const [row, column] = cellOf(x, y, map);
      line(`P${level + 2}, row ${row}, column ${column}`);
      for (let a = 0; a < perCell; a++) {
        const [score, ...deltas] = rpn[first + (row * map.width + column) * perCell + a];
        const cell = cells[level * perCell + a];
        const anchor = cell.map((v, i) => v + (i % 2 ? row : column) * map.stride);
        frame(anchor, { stroke: PAINTS[a % 3], "stroke-width": 1.5 / shown, "stroke-dasharray": `${4 / shown} ${3 / shown}` });
        frame(decode(anchor, deltas), { stroke: PAINTS[a % 3], "stroke-width": 2.5 / shown });
        const shape = `${Math.round(cell[2] - cell[0])} × ${Math.round(cell[3] - cell[1])}`;
        const text = line(`anchor ${shape}: objectness ${number(score)}`);
        text.style.cssText = `border-left:4px solid ${PAINTS[a % 3]};padding-left:8px;margin:4px 0`;
      }
      return `${row},${column}`;
    },
    proposals(x, y) {
      let hits = 0;
      for (const box of [...proposals].reverse()) {
        const inside = contains(box, x, y);
        hits += inside;
        frame(box, { stroke: inside ? "var(--mw-orange)" : "#ffffff", "stroke-width": (inside ? 2 : 0.8) / shown, opacity: inside ? 1 : 0.7 });
      }
      line(`${proposals.length} best proposals; ${hits} contain the probe.`);
      proposals.filter((box) => contains(box, x, y)).slice(0, 6).forEach((box) =>
        line(`objectness ${number(box[4])}: ${Math.round(box[2] - box[0])} × ${Math.round(box[3] - box[1])} px`));
      return String(hits);
    },
    boxes(x, y) {
      const chosen = smallest(detections, x, y);
      detections.forEach((box, i) => {
        frame(box, { stroke: "#000", "stroke-width": (i === chosen ? 5 : 3.4) / shown, opacity: 0.5 });
        frame(box, { stroke: paintOf(box[5]), "stroke-width": (i === chosen ? 3.4 : 1.8) / shown });
      });
      line(chosen < 0 ? "No detection under the probe." : `${names[detections[chosen][5] - 1]}, score ${number(detections[chosen][4])}`);
      detections.forEach((box, i) => {
        const item = line(`${names[box[5] - 1]} ${number(box[4])}`);
        item.style.cssText = `border-left:4px solid ${paintOf(box[5])};padding-left:8px;margin:3px 0;font-weight:${i === chosen ? 600 : 400}`;
      });
      return String(chosen);
    },
    masks(x, y) {
      const chosen = smallest(detections, x, y);
      detections.forEach((box, i) => {
        const [r, g, b] = rgbOf(box[5]);
        const at = i * maskSide * maskSide;
        const href = rgba(maskSide, maskSide, (k) => [r, g, b, masks[at + k] * (i === chosen ? 0.9 : 0.6)]);
        svg("image", { href, x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1], preserveAspectRatio: "none" }, layer);
        if (i === chosen) frame(box, { stroke: "#fff", "stroke-width": 2 / shown });
      });
      if (chosen < 0) {
        line("No detection under the probe.");
        return "-1";
      }
      const box = detections[chosen];
      const [row, column] = maskCell(box, maskSide, x, y);
      const at = chosen * maskSide * maskSide;
      line(`${names[box[5] - 1]}: ${maskSide} × ${maskSide} probabilities`);
      const small = svg("svg", { viewBox: `0 0 ${maskSide} ${maskSide}` }, side);
      small.style.cssText = "width:min(100%,200px);margin:6px 0";
      svg("image", { href: picture(Array.from(masks.subarray(at, at + maskSide ** 2)), maskSide, maskSide, 0, 255), width: maskSide, height: maskSide }, small);
      svg("rect", { x: column, y: row, width: 1, height: 1, fill: "none", stroke: "var(--mw-red)", "stroke-width": 0.25 }, small);
      line(`under the probe: ${number(masks[at + row * maskSide + column] / 255)} (inside from 0.50)`);
      return `${chosen},${row},${column}`;
    },
  };

  function feature(x, y, letter, offset) {
    const level = model.get("level");
    const map = maps[offset + level];
    const start = begin[offset + level];
    overlay(`${letter}${level}`, () => picture(norms(values, start, map), map.height, map.width), map, 0.9);
    const [row, column] = cellOf(x, y, map);
    const s = map.stride;
    frame([column * s, row * s, (column + 1) * s, (row + 1) * s], { stroke: "var(--mw-red)", "stroke-width": 2 / shown });
    line(`${letter}${level + 2}: ${map.height} × ${map.width} cells, ${map.channels} channels`);
    bars(map, start, row, column);
    line(`the vector in row ${row}, column ${column}; one cell is ${s} × ${s} pixels`);
    return `${row},${column}`;
  }

  const draw = () => {
    const stage = model.get("stage");
    const [x, y] = model.get("probe");
    buttons.forEach((button, i) => {
      const on = STAGES[i][0] === stage;
      set(button, { "aria-pressed": String(on) });
      button.style.cssText = `font:inherit;padding:4px 10px;border-radius:4px;cursor:pointer;border:1px solid var(--mw-line);` +
        (on ? "background:var(--mw-blue);color:var(--mw-bg)" : "background:var(--mw-panel);color:var(--mw-fg)");
    });
    levelBox.style.visibility = ["backbone", "pyramid", "rpn"].includes(stage) ? "visible" : "hidden";
    layer.replaceChildren();
    side.replaceChildren();
    const says = line(SAYS[stage]);
    says.style.cssText = "color:var(--mw-muted);margin-bottom:8px";
    const read = stages[stage](x, y);
    set(handle, { transform: `translate(${x} ${y})` });
    root.dataset.state = `${stage} ${number(x, 1)},${number(y, 1)} ${read}`;
  };
  const stop = watch(model, ["stage", "level", "probe"], draw);
  const still = onResize(root, () => {
    shown = view.getBoundingClientRect().width / width || 1;
    for (const circle of handle.children) set(circle, { r: 9 / shown });
    handle.children[0].setAttribute("stroke-width", 4 / shown);
    handle.children[1].setAttribute("stroke-width", 2 / shown);
    draw();
  });
  return () => {
    stop();
    still();
  };
}

export default { render };
