// The budget calculator: hours and money of a run over the number of GPUs.
//
// The arithmetic is that of mrcnn_edu/training/budget.py, tested against it.

import { clamp, controls, draggable, html, mount, number, onResize, put, select, set, slider, svg, watch } from "./_core.js";

// ---------------------------------------------------------------- arithmetic

/** What it takes to train on so many images: rate, limit, hours, money, idle. */
export function bill(images, { gpus, images_s, efficiency, workers, worker_images_s, price }) {
  const gpu = gpus * images_s * (gpus > 1 ? efficiency : 1);
  const loader = workers * worker_images_s;
  const rate = Math.min(gpu, loader);
  const hours = images / rate / 3600;
  return {
    rate,
    limit: gpu <= loader ? "GPUs" : "loader",
    hours,
    money: hours * gpus * price,
    idle: 1 - rate / gpu,
  };
}

/** A number with three or so digits that count, thousands apart: 1,569 or 2.3 or 0.42. */
export function short(value) {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return number(value, value >= 10 ? 1 : 2);
}

// ---------------------------------------------------------------- view

const MOST = 64;
const [LOW, HIGH] = [0.1, 1000]; // hours
const COUNTS = [1, 2, 4, 8, 16, 32, 64];
const TRAITS = ["schedule", "gpus", "images_s", "efficiency", "workers", "worker_images_s", "price"];
const HEIGHT = 270;
const EDGE = { left: 52, right: 14, top: 14, bottom: 42 };

function render({ model, el }) {
  const root = mount(el, "budget");
  const bar = controls(root);
  select(bar, model, "schedule", "schedule", Object.keys(model.get("steps")));
  const cards = model.get("cards");
  select(bar, model, "card", "card", Object.keys(cards));
  const chosen = () => {
    const [images_s, efficiency, price] = cards[model.get("card")];
    put(model, { images_s, efficiency, price });
  };
  model.on("change:card", chosen);
  slider(bar, model, "gpus", "GPUs", { min: 1, max: MOST });
  slider(bar, model, "images_s", "images/s of one GPU", { min: 0.25, max: 100, step: 0.25, format: (v) => number(v, 1) });
  slider(bar, model, "efficiency", "efficiency of many", { min: 0.3, max: 1, step: 0.01, format: (v) => `${Math.round(100 * v)} %` });
  slider(bar, model, "workers", "loading processes", { min: 1, max: 64 });
  slider(bar, model, "worker_images_s", "images/s of one process", { min: 5, max: 400, step: 1, format: (v) => number(v, 0) });
  slider(bar, model, "price", "$ per GPU-hour", { min: 0.1, max: 12, step: 0.01, format: (v) => number(v, 2) });

  let width = 640;
  const canvas = svg("svg", { role: "img", "aria-label": "hours of the run over the number of GPUs" }, root);
  const grid = svg("g", {}, canvas);
  const dashed = { fill: "none", "stroke-width": 2, "stroke-dasharray": "6 4" };
  const loader = svg("path", { ...dashed, stroke: "var(--mw-orange)" }, canvas);
  const gpu = svg("path", { ...dashed, stroke: "var(--mw-sky)" }, canvas);
  const curve = svg("path", { fill: "none", stroke: "var(--mw-blue)", "stroke-width": 3 }, canvas);
  const knob = svg("circle", { r: 10, fill: "var(--mw-blue)", stroke: "#ffffff", "stroke-width": 2 }, canvas);
  const legend = html("div", {}, root);
  legend.style.cssText = "display:flex;flex-wrap:wrap;gap:4px 16px;margin:2px 0 6px";
  for (const [text, stroke] of [["this run", "3px solid var(--mw-blue)"], ["GPUs alone", "2px dashed var(--mw-sky)"], ["loader alone", "2px dashed var(--mw-orange)"]]) {
    const item = html("span", {}, legend);
    html("span", { style: `display:inline-block;width:22px;border-top:${stroke};vertical-align:middle;margin-right:5px` }, item);
    item.append(text);
  }
  const total = html("div", { "aria-live": "polite" }, root);
  total.style.cssText = "font-weight:600;font-size:16px;font-variant-numeric:tabular-nums";
  const says = html("div", {}, root);
  says.style.cssText = "margin-top:4px;color:var(--mw-muted)";

  const toX = (gpus) => EDGE.left + (Math.log2(gpus) / Math.log2(MOST)) * (width - EDGE.left - EDGE.right);
  const toGpus = (x) => Math.round(MOST ** clamp((x - EDGE.left) / (width - EDGE.left - EDGE.right), 0, 1));
  const toY = (hours) => {
    const part = Math.log(clamp(hours, LOW, HIGH) / LOW) / Math.log(HIGH / LOW);
    return HEIGHT - EDGE.bottom - part * (HEIGHT - EDGE.top - EDGE.bottom);
  };
  const choice = () => Object.fromEntries(TRAITS.map((trait) => [trait, model.get(trait)]));
  const images = () => {
    const [steps, batch] = model.get("steps")[model.get("schedule")];
    return steps * batch;
  };

  draggable(knob, {
    label: "number of GPUs",
    at: () => [toX(model.get("gpus")), toY(bill(images(), choice()).hours)],
    move: (x) => {
      const now = model.get("gpus");
      const next = toGpus(x);
      // One press of an arrow key is a pixel: less than a GPU where the axis is wide.
      const nudge = next === now && Math.abs(x - toX(now)) >= 1 ? Math.sign(x - toX(now)) : 0;
      put(model, { gpus: clamp(next + nudge, 1, MOST) });
    },
  });

  const axes = () => {
    set(canvas, { viewBox: `0 0 ${width} ${HEIGHT}` });
    grid.replaceChildren();
    const line = { stroke: "var(--mw-line)", "stroke-width": 1 };
    const text = { "font-size": 12 };
    for (const count of COUNTS) {
      svg("line", { x1: toX(count), x2: toX(count), y1: toY(LOW), y2: toY(HIGH), ...line }, grid);
      svg("text", { x: toX(count), y: toY(LOW) + 17, "text-anchor": "middle", ...text, text: count }, grid);
    }
    for (const hours of [0.1, 1, 10, 100, 1000]) {
      svg("line", { x1: toX(1), x2: toX(MOST), y1: toY(hours), y2: toY(hours), ...line }, grid);
      const label = hours < 1000 ? `${hours} h` : "1,000 h";
      svg("text", { x: EDGE.left - 6, y: toY(hours) + 4, "text-anchor": "end", ...text, text: label }, grid);
    }
    svg("text", { x: (toX(1) + toX(MOST)) / 2, y: HEIGHT - 6, "text-anchor": "middle", ...text, text: "GPUs" }, grid);
  };

  const draw = () => {
    const machine = choice();
    const all = images();
    const points = Array.from({ length: MOST }, (_, k) => k + 1);
    const path = (hours) => "M" + points.map((n) => `${toX(n)} ${toY(hours({ ...machine, gpus: n }))}`).join(" L ");
    set(curve, { d: path((m) => bill(all, m).hours) });
    set(gpu, { d: path((m) => bill(all, { ...m, workers: 1e9 }).hours) });
    set(loader, { d: path((m) => all / (m.workers * m.worker_images_s) / 3600) });
    const found = bill(all, machine);
    set(knob, { cx: toX(machine.gpus), cy: toY(found.hours) });
    const [steps, batch] = model.get("steps")[machine.schedule];
    total.textContent = `${short(found.hours)} hours, $${short(found.money)}`;
    const share = machine.gpus > 1 ? ` × ${Math.round(100 * machine.efficiency)} %` : "";
    const gpuRate = machine.gpus * machine.images_s * (machine.gpus > 1 ? machine.efficiency : 1);
    const loaderRate = machine.workers * machine.worker_images_s;
    const wait = found.limit === "loader" ? `, and GPUs wait ${Math.round(100 * found.idle)} % of the time` : "";
    says.textContent =
      `${steps.toLocaleString("en-US")} steps × ${batch} = ${all.toLocaleString("en-US")} images. ` +
      `GPUs: ${machine.gpus} × ${number(machine.images_s, 1)}${share} = ${short(gpuRate)} images/s; ` +
      `loader: ${machine.workers} × ${number(machine.worker_images_s, 0)} = ${short(loaderRate)}. ` +
      `The ${found.limit === "GPUs" ? "GPUs decide" : "loader decides"}${wait}. ` +
      `Money: hours × ${machine.gpus} × $${number(machine.price, 2)}.`;
    root.dataset.state = `${machine.schedule}, ${machine.gpus} GPUs: ${short(found.hours)} h, $${short(found.money)}, ${found.limit}`;
  };
  axes();
  const stop = watch(model, TRAITS, draw);
  const still = onResize(root, (now) => {
    width = now;
    axes();
    draw();
  });
  return () => {
    stop();
    still();
    model.off("change:card", chosen);
  };
}

export default { render };
