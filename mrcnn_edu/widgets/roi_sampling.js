// RoIPool, RoIWarp and RoIAlign on one feature map: drag the box, see what is read.
//
// The first half is the arithmetic of mrcnn_edu/roi/reference.py, pure functions that are tested
// against it. Map coordinates are *indices* there: the value of pixel (i, j) is at (i, j). On the
// screen pixel (i, j) covers [j, j + 1) × [i, i + 1), so an index is drawn half a pixel further.

import {
  checkbox, clamp, controls, css, draggable, extent, floats, fraction, grey, html, inkOn, mount,
  number, onResize, picture, put, select, set, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

/** To the nearest integer, halves away from zero: C's round, not Math.round. */
export function roundHalfAway(value) {
  return Math.sign(value) * Math.floor(Math.abs(value) + 0.5) + 0;
}

/** Pixels and weights [i, j, weight] that a sample at (y, x) reads; none far outside the map. */
export function bilinear(y, x, height, width) {
  if (!(y >= -1 && y <= height && x >= -1 && x <= width)) return [];
  y = clamp(y, 0, height - 1);
  x = clamp(x, 0, width - 1);
  const [i, j] = [Math.floor(y), Math.floor(x)];
  const [below, right] = [y - i, x - j];
  const [i2, j2] = [Math.min(i + 1, height - 1), Math.min(j + 1, width - 1)];
  return [
    [i, j, (1 - below) * (1 - right)],
    [i, j2, (1 - below) * right],
    [i2, j, below * (1 - right)],
    [i2, j2, below * right],
  ];
}

/** The box on the map, in indices: corner, sides and whether its last pixel is part of it. */
export function placed(box, scale, operator, aligned) {
  const offset = operator === "align" && aligned ? 0.5 : 0;
  let [x1, y1, x2, y2] = box.map((value) => value * scale - offset);
  if (operator !== "align") [x1, y1, x2, y2] = [x1, y1, x2, y2].map(roundHalfAway);
  let [h, w] = [y2 - y1, x2 - x1];
  if (operator === "pool") [h, w] = [Math.max(h + 1, 1), Math.max(w + 1, 1)];
  else if (offset === 0) [h, w] = [Math.max(h, 1), Math.max(w, 1)];
  return { y: y1, x: x1, h, w };
}

/** The bins of RoIWarp or RoIAlign, row by row: each a list of samples { y, x, taps }. */
export function sampledBins(box, bins, size, scale, samples, operator, aligned) {
  const { y, x, h, w } = placed(box, scale, operator, aligned);
  const [binH, binW] = [h / bins, w / bins];
  const rows = samples > 0 ? samples : Math.ceil(binH);
  const columns = samples > 0 ? samples : Math.ceil(binW);
  const found = [];
  for (let q = 0; q < bins; q++) {
    for (let p = 0; p < bins; p++) {
      const points = [];
      for (let s = 0; s < rows; s++) {
        for (let t = 0; t < columns; t++) {
          const sy = y + q * binH + ((s + 0.5) * binH) / rows;
          const sx = x + p * binW + ((t + 0.5) * binW) / columns;
          points.push({ y: sy, x: sx, taps: bilinear(sy, sx, ...size) });
        }
      }
      found.push(points);
    }
  }
  return found;
}

/** The bins of RoIPool, row by row: each a window [first row, end, first column, end). */
export function pooledBins(box, bins, size, scale) {
  const { y, x, h, w } = placed(box, scale, "pool", false);
  const cut = (start, side, bin, limit) => [
    Math.max(start + Math.floor((bin * side) / bins), 0),
    Math.min(start + Math.ceil(((bin + 1) * side) / bins), limit),
  ];
  const found = [];
  for (let q = 0; q < bins; q++) {
    for (let p = 0; p < bins; p++) {
      found.push([...cut(y, h, q, size[0]), ...cut(x, w, p, size[1])]);
    }
  }
  return found;
}

/** The value of a sample: the weighted sum of what it reads. */
export function sampleValue(taps, values, width) {
  return taps.reduce((sum, [i, j, weight]) => sum + weight * values[i * width + j], 0);
}

/** The output, bins × bins values row by row, of one operator on a map of height × width values. */
export function pool(values, size, box, scale, { operator, bins, samples, aligned, reduce }) {
  if (operator === "pool") {
    return pooledBins(box, bins, size, scale).map(([top, bottom, left, right]) => {
      let best = -Infinity;
      for (let i = top; i < bottom; i++) {
        for (let j = left; j < right; j++) best = Math.max(best, values[i * size[1] + j]);
      }
      return best === -Infinity ? 0 : best;
    });
  }
  return sampledBins(box, bins, size, scale, samples, operator, aligned).map((points) => {
    const read = points.map(({ taps }) => sampleValue(taps, values, size[1]));
    if (read.length === 0) return 0;
    if (reduce === "max") return Math.max(...read);
    return read.reduce((sum, value) => sum + value, 0) / read.length;
  });
}

/** Mean absolute difference of two lists. */
export function distance(a, b) {
  return a.reduce((sum, value, k) => sum + Math.abs(value - b[k]), 0) / a.length;
}

// ---------------------------------------------------------------- the view

const OPERATORS = [["pool", "RoIPool"], ["warp", "RoIWarp"], ["align", "RoIAlign"]];
const NAMES = Object.fromEntries(OPERATORS);
const TRUE_BOX = "#0a84ff";
const READ_BOX = "#ff3b1f";
const TRAITS = ["box", "operator", "bins", "samples", "aligned", "reduce", "bin", "photograph_shown"];

function render({ model, el }) {
  const root = mount(el, "roi_sampling");
  const size = model.get("size");
  const [height, width] = size;
  const stride = model.get("stride");
  const values = floats(model.get("features"));
  const range = extent(values);
  const tone = (value) => grey(fraction(value, range));

  const bar = controls(root);
  select(bar, model, "operator", "operator", OPERATORS);
  select(bar, model, "bins", "bins", [1, 2, 3, 4, 5, 6, 7].map((n) => [n, `${n} × ${n}`]));
  const samples = select(bar, model, "samples", "samples a bin",
    [1, 2, 3, 4].map((n) => [n, `${n} × ${n}`]).concat([[0, "adaptive"]]));
  const reduce = select(bar, model, "reduce", "each bin is the", [["mean", "mean"], ["max", "maximum"]]);
  const aligned = checkbox(bar, model, "aligned", "aligned (half pixel)");
  if (model.get("photograph")) checkbox(bar, model, "photograph_shown", "show the photograph");

  const stage = html("div", { class: "mw-roi" }, root);
  const left = svg("svg", { role: "group", "aria-label": "feature map with the region of interest" }, stage);
  const right = svg("svg", {
    role: "img", tabindex: 0,
    "aria-label": "outputs of the three operators; arrow keys choose a bin",
  }, stage);
  const legend = html("div", { class: "mw-roi-legend" }, root);
  const readout = html("div", { class: "mw-roi-readout", "aria-live": "polite" }, root);

  // The map, once. Inside `map` one unit is one pixel of the map.
  const map = svg("g", {}, left);
  svg("image", {
    width, height, preserveAspectRatio: "none",
    href: picture(values, height, width, { range, colours: grey }),
  }, map);
  const photograph = svg("image", { width, height, preserveAspectRatio: "none" }, map);
  if (model.get("photograph")) set(photograph, { href: model.get("photograph") });
  photograph.style.imageRendering = "auto";
  svg("path", {
    d: [...Array(width + 1).keys()].map((j) => `M${j} 0V${height}`).join("") +
      [...Array(height + 1).keys()].map((i) => `M0 ${i}H${width}`).join(""),
    class: "mw-roi-grid",
  }, map);
  const mapNumbers = svg("g", { class: "mw-roi-numbers" }, map);
  const chosen = svg("g", {}, map);
  const lines = svg("g", {}, map);
  const body = svg("rect", { class: "mw-roi-body" }, map);
  const dots = svg("g", { class: "mw-roi-dots" }, map);
  const cornerNames = ["top left", "top right", "bottom right", "bottom left"];
  const corners = cornerNames.map((label) => svg("circle", { class: "mw-roi-corner" }, map));

  // Dragging: the box is kept in image pixels, at least one map pixel wide, inside the image.
  const limits = [width * stride, height * stride];
  const box = () => model.get("box");
  const tidy = (numbers) => numbers.map((v) => Math.round(v * 10) / 10);
  draggable(body, {
    label: "region of interest", step: 1 / stride, big: 1,
    at: () => [box()[0] / stride, box()[1] / stride],
    move: (x, y) => {
      const [x1, y1, x2, y2] = box();
      const nx = clamp(x * stride, 0, limits[0] - (x2 - x1));
      const ny = clamp(y * stride, 0, limits[1] - (y2 - y1));
      put(model, { box: tidy([nx, ny, nx + x2 - x1, ny + y2 - y1]) });
    },
  });
  corners.forEach((corner, k) => {
    const [kx, ky] = [k === 0 || k === 3 ? 0 : 2, k < 2 ? 1 : 3];
    draggable(corner, {
      label: `${cornerNames[k]} corner`, step: 1 / stride, big: 1,
      at: () => [box()[kx] / stride, box()[ky] / stride],
      move: (x, y) => {
        const next = [...box()];
        next[kx] = kx === 0
          ? clamp(x * stride, 0, next[2] - stride) : clamp(x * stride, next[0] + stride, limits[0]);
        next[ky] = ky === 1
          ? clamp(y * stride, 0, next[3] - stride) : clamp(y * stride, next[1] + stride, limits[1]);
        put(model, { box: tidy(next) });
      },
    });
  });

  // Choosing a bin: with the pointer over an output or over the map, or with the arrow keys.
  const choose = (q, p) => {
    const [oldQ, oldP] = model.get("bin");
    if (q !== oldQ || p !== oldP) put(model, { bin: [q, p] });
  };
  right.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("[data-bin]");
    if (cell) choose(...cell.dataset.bin.split(",").map(Number));
  });
  body.addEventListener("pointermove", (event) => {
    if (event.buttons) return; // the box is being dragged
    const point = new DOMPoint(event.clientX, event.clientY);
    const { x, y } = point.matrixTransform(map.getScreenCTM().inverse());
    const operator = model.get("operator");
    const used = placed(box(), 1 / stride, operator, model.get("aligned"));
    const shift = operator === "pool" ? 0 : 0.5;
    const last = model.get("bins") - 1;
    choose(clamp(Math.floor(((y - used.y - shift) / used.h) * (last + 1)), 0, last),
      clamp(Math.floor(((x - used.x - shift) / used.w) * (last + 1)), 0, last));
  });
  right.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-operator]");
    if (cell) put(model, { operator: cell.dataset.operator });
  });
  right.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const move = moves[event.key];
    if (!move) return;
    const last = model.get("bins") - 1;
    const [q, p] = model.get("bin");
    choose(clamp(q + move[0], 0, last), clamp(p + move[1], 0, last));
    event.preventDefault();
    event.stopPropagation();
  });

  let unit = 1; // screen pixels a map pixel
  let outputs = { side: 100, vertical: true };

  function layout(available) {
    const wide = available >= 600;
    const mapWidth = wide ? available - 170 : available;
    unit = Math.min(mapWidth / width, 470 / height, 88);
    set(left, { width: unit * width, height: unit * height, viewBox: `0 0 ${unit * width} ${unit * height}` });
    set(map, { transform: `scale(${unit})` });
    mapNumbers.replaceChildren();
    if (unit >= 30) {
      values.forEach((value, k) => svg("text", {
        x: (k % width) + 0.06, y: Math.floor(k / width) + 0.94, "font-size": 0.24,
        style: `fill: ${inkOn(tone(value))}`,
        text: number(value, Number.isInteger(value) ? 0 : 2),
      }, mapNumbers));
    }
    outputs = wide
      ? { vertical: true, side: clamp((unit * height - 66) / 3, 76, 150) }
      : { vertical: false, side: (available - 20) / 3 };
    const span = 3 * outputs.side;
    set(right, wide
      ? { width: 152, height: span + 66, viewBox: `0 0 152 ${span + 66}` }
      : { width: available, height: outputs.side + 22, viewBox: `0 0 ${available} ${outputs.side + 22}` });
    draw();
  }

  function draw() {
    const [operator, bins, reduction] = ["operator", "bins", "reduce"].map((name) => model.get(name));
    const [q, p] = model.get("bin").map((k) => Math.min(k, bins - 1));
    const options = {
      bins, samples: model.get("samples"), aligned: model.get("aligned"), reduce: reduction,
    };
    const scale = 1 / stride;
    samples.disabled = reduce.disabled = operator === "pool";
    aligned.disabled = operator !== "align";
    photograph.style.display = model.get("photograph_shown") ? "" : "none";
    mapNumbers.style.display = model.get("photograph_shown") ? "none" : "";

    const results = OPERATORS.map(([name]) => pool(values, size, box(), scale, { ...options, operator: name }));
    drawBoxes(operator, bins, options.aligned, scale);
    if (operator === "pool") drawWindow(pooledBins(box(), bins, size, scale)[q * bins + p]);
    else drawSamples(sampledBins(box(), bins, size, scale, options.samples, operator, options.aligned), q * bins + p);
    drawOutputs(results, operator, bins, q, p);
    describe(results[OPERATORS.findIndex(([name]) => name === operator)], operator, options, q, p, scale);
    root.dataset.state = [
      operator, box().join(","), bins, options.samples, options.aligned, reduction, `${q},${p}`,
    ].join(" ");
  }

  /** The true box, the box that is read, and its bins. */
  function drawBoxes(operator, bins, isAligned, scale) {
    const [x1, y1, x2, y2] = box().map((value) => value * scale);
    const used = placed(box(), scale, operator, isAligned);
    const shift = operator === "pool" ? 0 : 0.5; // from an index to the place on the screen
    const [ux, uy] = [used.x + shift, used.y + shift];
    const same = Math.max(Math.abs(ux - x1), Math.abs(uy - y1),
      Math.abs(ux + used.w - x2), Math.abs(uy + used.h - y2)) < 1e-9;
    lines.replaceChildren();
    const px = 1 / unit;
    const outline = (x, y, w, h, colour, thick) => {
      for (const [stroke, extra] of [["#ffffff", 2], [colour, 0]]) {
        svg("rect", { x, y, width: w, height: h, fill: "none", stroke, "stroke-width": (thick + extra) * px }, lines);
      }
    };
    let d = "";
    if (operator === "pool") {
      for (const [top, bottom, left_, right_] of pooledBins(box(), bins, size, scale)) {
        if (bottom > top && right_ > left_) d += `M${left_} ${top}H${right_}V${bottom}H${left_}Z`;
      }
    } else {
      for (let k = 1; k < bins; k++) {
        d += `M${ux + (k * used.w) / bins} ${uy}v${used.h}M${ux} ${uy + (k * used.h) / bins}h${used.w}`;
      }
    }
    const binColour = same ? TRUE_BOX : READ_BOX;
    svg("path", { d, fill: "none", stroke: "#ffffff", "stroke-width": 3 * px, opacity: 0.7 }, lines);
    svg("path", { d, fill: "none", stroke: binColour, "stroke-width": 1.2 * px }, lines);
    if (!same) outline(ux, uy, used.w, used.h, READ_BOX, 2.4);
    outline(x1, y1, x2 - x1, y2 - y1, TRUE_BOX, 2.4);
    set(body, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    const places = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
    corners.forEach((corner, k) => set(corner, { cx: places[k][0], cy: places[k][1], r: 7 * px, "stroke-width": 2 * px }));
    legend.replaceChildren();
    const key = (colour, text) => {
      const item = html("span", {}, legend);
      html("i", { style: `border-color: ${colour}` }, item);
      item.append(text);
    };
    key(TRUE_BOX, same ? "the box, read as it is" : "the box");
    if (!same) {
      const why = operator === "align" ? "read half a pixel too far down and right" : "rounded: what is read";
      key(READ_BOX, why);
    }
  }

  /** RoIPool: the window of the chosen bin, and its largest pixel. */
  function drawWindow([top, bottom, left_, right_]) {
    chosen.replaceChildren();
    dots.replaceChildren();
    if (bottom <= top || right_ <= left_) return;
    svg("rect", {
      x: left_, y: top, width: right_ - left_, height: bottom - top, class: "mw-roi-chosen",
    }, chosen);
    let best = [top, left_];
    for (let i = top; i < bottom; i++) {
      for (let j = left_; j < right_; j++) {
        if (values[i * width + j] > values[best[0] * width + best[1]]) best = [i, j];
      }
    }
    svg("circle", { cx: best[1] + 0.5, cy: best[0] + 0.5, r: 0.3, class: "mw-roi-tap" }, dots);
  }

  /** RoIWarp and RoIAlign: all samples, and for the chosen bin the pixels that they read. */
  function drawSamples(all, index) {
    chosen.replaceChildren();
    dots.replaceChildren();
    const px = 1 / unit;
    const path = (points) => points.map(({ x, y }) => `M${x + 0.5} ${y + 0.5}h0`).join("");
    const others = path(all.flatMap((points, k) => (k === index ? [] : points)));
    const small = all.length * all[0].length > 200 ? 3 : 4.5;
    svg("path", { d: others, stroke: "#ffffff", "stroke-width": (small + 2) * px, "stroke-linecap": "round" }, dots);
    svg("path", { d: others, stroke: "#20252b", "stroke-width": small * px, "stroke-linecap": "round" }, dots);
    const sums = new Map();
    for (const { x, y, taps } of all[index]) {
      for (const [i, j, weight] of taps) {
        if (weight <= 0) continue;
        sums.set(`${i},${j}`, (sums.get(`${i},${j}`) ?? 0) + weight / all[index].length);
        svg("path", {
          d: `M${x + 0.5} ${y + 0.5}L${j + 0.5} ${i + 0.5}`, class: "mw-roi-string",
          "stroke-width": (0.8 + 3 * weight) * px,
        }, dots);
      }
    }
    for (const [key, weight] of sums) {
      const [i, j] = key.split(",").map(Number);
      svg("rect", { x: j, y: i, width: 1, height: 1, class: "mw-roi-chosen" }, chosen);
      svg("circle", { cx: j + 0.5, cy: i + 0.5, r: Math.min(0.42, 20 * px) * Math.sqrt(weight), class: "mw-roi-tap" }, dots);
    }
    const mine = path(all[index]);
    svg("path", { d: mine, stroke: "#ffffff", "stroke-width": 9 * px, "stroke-linecap": "round" }, dots);
    svg("path", { d: mine, stroke: "#d55e00", "stroke-width": 6 * px, "stroke-linecap": "round" }, dots);
  }

  /** The three outputs, in the map's colours; the chosen operator is framed. */
  function drawOutputs(results, operator, bins, q, p) {
    const { side, vertical } = outputs;
    const cell = side / bins;
    right.replaceChildren();
    results.forEach((result, k) => {
      const name = OPERATORS[k][0];
      const group = svg("g", {
        transform: vertical ? `translate(0 ${k * (side + 22)})` : `translate(${k * (side + 10)} 0)`,
        "data-operator": name, class: "mw-roi-output",
      }, right);
      const title = svg("text", { y: 13, "font-size": 13, text: NAMES[name] }, group);
      if (name === operator) set(title, { "font-weight": 700 });
      result.forEach((value, index) => {
        const [row, column] = [Math.floor(index / bins), index % bins];
        const place = { x: column * cell, y: 18 + row * cell };
        svg("rect", {
          ...place, width: cell, height: cell, fill: css(tone(value)), "data-bin": `${row},${column}`,
        }, group);
        if (cell >= 26) {
          svg("text", {
            x: place.x + cell / 2, y: place.y + cell / 2 + 4, "text-anchor": "middle",
            "font-size": Math.min(12, cell / 2.7), "pointer-events": "none",
            style: `fill: ${inkOn(tone(value))}`, text: number(value, Math.abs(value) < 10 ? 2 : 1),
          }, group);
        }
      });
      svg("rect", {
        x: p * cell + 1, y: 18 + q * cell + 1, width: cell - 2, height: cell - 2,
        class: "mw-roi-bin", "pointer-events": "none",
      }, group);
      svg("rect", {
        y: 18, width: side, height: side, fill: "none", "pointer-events": "none",
        stroke: name === operator ? "var(--mw-fg)" : "var(--mw-line)",
        "stroke-width": name === operator ? 2.5 : 1,
      }, group);
    });
  }

  /** In words and numbers: the box on the map, and how the chosen bin came about. */
  function describe(result, operator, options, q, p, scale) {
    const map_ = box().map((value) => number(value * scale));
    const align = pool(values, size, box(), scale, { ...options, operator: "align", aligned: true });
    const off = distance(result, align);
    readout.replaceChildren();
    html("p", {
      text: `Box (${box().map((v) => number(v, 1)).join(", ")}) in the image, ` +
        `(${map_.join(", ")}) on the map at stride ${stride}.` +
        (off > 0 ? ` The output is ${number(off, 3)} a bin away from that of aligned RoIAlign.` : ""),
    }, readout);
    const index = q * options.bins + p;
    const value = number(result[index], 3);
    const where = `Bin in row ${q + 1}, column ${p + 1}`;
    if (operator === "pool") {
      const [top, bottom, left_, right_] = pooledBins(box(), options.bins, size, scale)[index];
      const [rows, columns] = [Math.max(bottom - top, 0), Math.max(right_ - left_, 0)];
      html("p", { text: `${where}: the largest of ${rows} × ${columns} whole pixels, ${value}.` }, readout);
      return;
    }
    const points = sampledBins(box(), options.bins, size, scale, options.samples, operator, options.aligned)[index];
    const word = options.reduce === "max" ? "maximum" : "mean";
    const count = points.length === 1 ? "1 sample" : `${points.length} samples`;
    html("p", { text: `${where}: the ${word} of ${count}, ${value}. Weight × value of the four neighbours:` }, readout);
    const list = html("ul", {}, readout);
    for (const { taps } of points.slice(0, 4)) {
      const terms = taps.map(([i, j, weight]) => `${number(weight)} × ${number(values[i * width + j])}`);
      const text = taps.length ? `${terms.join(" + ")} = ${number(sampleValue(taps, values, width))}` : "outside the map: 0";
      html("li", { text }, list);
    }
    if (points.length > 4) html("li", { text: `and ${points.length - 4} more` }, list);
  }

  const stopSize = onResize(root, layout);
  const stopDrawing = watch(model, TRAITS, draw);
  return () => {
    stopSize();
    stopDrawing();
  };
}

export default { render };
