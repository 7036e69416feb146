// Every claim on one axis: a dot and a line for the measured difference and its interval, a tick
// for the published one. Choices above; the arithmetic is that of intervals.py.

import {
  checkbox, clamp, controls, html, mount, number, onResize, select, set, slider, svg, watch,
} from "./_core.js";

// ---------------------------------------------------------------- arithmetic

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function variance(values) {
  const middle = mean(values);
  return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
}

function interval(middle, half) {
  return { mean: middle, low: middle - half, high: middle + half };
}

/** The difference of two arms by seed: mean and 95 % interval; without ends for one seed. */
export function paired(first, second, quantiles) {
  const differences = first.map((value, k) => value - second[k]);
  const n = differences.length;
  if (n < 2) return { mean: mean(differences), low: null, high: null };
  const t = n - 2 < quantiles.length ? quantiles[n - 2] : 1.96;
  return interval(mean(differences), t * Math.sqrt(variance(differences) / n));
}

/** The same without the pairs. */
export function unpaired(first, second, quantiles) {
  const n = first.length;
  const middle = mean(first.map((value, k) => value - second[k]));
  if (n < 2) return { mean: middle, low: null, high: null };
  const freedom = 2 * n - 2;
  const t = freedom <= quantiles.length ? quantiles[freedom - 1] : 1.96;
  return interval(middle, t * Math.sqrt((variance(first) + variance(second)) / n));
}

/** The verdict on a claim from the values of its two arms. */
export function verdict(first, second, smallest, alike, { quantiles, fewest, floor }) {
  const { low, high } = paired(first, second, quantiles);
  if (first.length < fewest || Math.max(mean(first), mean(second)) < floor) return "undecided";
  const yes = alike ? -smallest < low && high < smallest : low > 0;
  const no = alike ? low > smallest || high < -smallest : high < smallest / 2;
  return yes ? "reproduced" : no ? "not reproduced" : "undecided";
}

/** The claims that a choice leaves; "all" leaves everything. */
export function chosen(claims, choice) {
  return claims.filter((claim) => Object.entries(choice).every(([key, value]) => value === "all" || claim[key] === value));
}

/** A difference with its sign: one decimal, near 0 two. */
export function signed(value) {
  const digits = Math.abs(value) < 0.05 ? 2 : 1;
  const text = number(value, digits);
  return Number(text.replace("−", "-")) === 0 ? "0.0" : value > 0 ? `+${text}` : text;
}

// ---------------------------------------------------------------- view

const COLOURS = { reproduced: "var(--mw-green)", "not reproduced": "var(--mw-red)", undecided: "var(--mw-muted)" };
const LIMIT = 25; // AP points: one large effect would squeeze all others
const LEFT = 10;
const RIGHT = 150; // for the numbers
const ROW = 50;
const HEAD = 24;

function values(claims, key) {
  return ["all", ...new Set(claims.map((claim) => claim[key]))];
}

function render({ model, el }) {
  const root = mount(el, "forest");
  const claims = model.get("claims");
  const rule = { quantiles: model.get("quantiles"), fewest: model.get("fewest"), floor: model.get("floor") };
  const titles = Object.fromEntries(claims.map((claim) => [claim.table, claim.title]));
  const most = Math.max(2, ...claims.map((claim) => claim.first.length));

  const bar = controls(root);
  const profiles = values(claims, "profile").slice(1);
  select(bar, model, "profile", "profile", profiles);
  const named = values(claims, "table").map((key) => [key, key === "all" ? "all" : `${key}: ${titles[key]}`]);
  select(bar, model, "table", "table", named).style.maxWidth = "230px";
  select(bar, model, "data", "images", values(claims, "data"));
  select(bar, model, "metric", "metric", values(claims, "metric"));
  slider(bar, model, "seeds", "first seeds only", { min: 0, max: most, format: (v) => (v === 0 ? "all" : String(v)) });
  checkbox(bar, model, "unpaired", "unpaired, too");

  const frame = html("div", {}, root);
  const says = html("div", { "aria-live": "polite", style: "margin-top:8px;font-variant-numeric:tabular-nums" }, root);

  let width = 640;
  const draw = () => {
    const choice = Object.fromEntries(["profile", "table", "data", "metric"].map((key) => [key, model.get(key)]));
    const seeds = model.get("seeds");
    const rows = chosen(claims, choice).map((claim) => {
      const count = seeds || claim.first.length;
      const [first, second] = [claim.first.slice(0, count), claim.second.slice(0, count)];
      return {
        ...claim,
        found: paired(first, second, rule.quantiles),
        wide: unpaired(first, second, rule.quantiles),
        ruling: verdict(first, second, claim.smallest, claim.alike, rule),
      };
    });
    const ends = rows.flatMap((row) => [
      row.found.mean, row.found.low, row.found.high, row.published,
      ...(row.alike ? [-row.smallest, row.smallest] : []),
      ...(model.get("unpaired") ? [row.wide.low, row.wide.high] : []),
    ]).filter((value) => value !== null);
    const low = Math.max(-LIMIT, Math.min(0, ...ends)) - 0.5;
    const high = Math.min(LIMIT, Math.max(0, ...ends)) + 0.5;
    const x = (value) => LEFT + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (width - LEFT - RIGHT);

    frame.replaceChildren();
    const groups = [...new Set(rows.map((row) => `${row.table} · ${row.title} (${row.data})`))];
    const height = rows.length * ROW + groups.length * HEAD + 44;
    const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "published and measured differences" }, frame);
    const bottom = height - 40;
    const room = (high - low) / (width - LEFT - RIGHT); // AP points per unit
    const step = [1, 2, 5, 10].find((each) => each / room > 34) ?? 25;
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
      svg("line", { x1: x(tick), x2: x(tick), y1: 4, y2: bottom, stroke: tick === 0 ? "var(--mw-fg)" : "var(--mw-line)", "stroke-width": 1 }, canvas);
      svg("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle", "font-size": 13, text: number(tick, 0) }, canvas);
    }
    svg("text", { x: LEFT, y: height - 6, "font-size": 13, text: "difference in AP points, 95 % interval" }, canvas);

    let y = 0;
    let group = "";
    for (const row of rows) {
      const name = `${row.table} · ${row.title} (${row.data})`;
      if (name !== group) {
        group = name;
        y += HEAD;
        svg("text", { x: LEFT, y: y - 6, "font-size": 14, "font-weight": 700, text: name }, canvas);
      }
      const colour = COLOURS[row.ruling];
      const line = y + 31;
      const label = svg("text", { x: LEFT, y: y + 13, "font-size": 13, text: `${row.claim}: ${row.metric}` }, canvas);
      set(label, { "paint-order": "stroke", stroke: "var(--mw-bg)", "stroke-width": 3 });
      if (row.alike) {
        svg("rect", { x: x(-row.smallest), width: x(row.smallest) - x(-row.smallest), y: line - 8, height: 16, fill: "var(--mw-sky)", "fill-opacity": 0.3 }, canvas);
      }
      if (model.get("unpaired") && row.wide.low !== null) {
        svg("line", { x1: x(row.wide.low), x2: x(row.wide.high), y1: line + 6, y2: line + 6, stroke: "var(--mw-muted)", "stroke-width": 1.5, "stroke-dasharray": "4 3" }, canvas);
      }
      const [from, to] = [row.found.low ?? low, row.found.high ?? high];
      svg("line", { x1: x(from), x2: x(to), y1: line, y2: line, stroke: colour, "stroke-width": 2.5 }, canvas);
      for (const [edge, beyond, way] of [[low, from < low, 1], [high, to > high, -1]]) {
        if (beyond) svg("path", { d: `M ${x(edge)} ${line} l ${8 * way} -5 v 10 Z`, fill: colour }, canvas);
      }
      if (row.found.mean >= low && row.found.mean <= high) svg("circle", { cx: x(row.found.mean), cy: line, r: 5, fill: colour }, canvas);
      if (row.published !== null) svg("rect", { x: x(row.published) - 1.5, width: 3, y: line - 8, height: 16, fill: "var(--mw-blue)" }, canvas);
      const span = row.found.low === null ? "(one seed)" : `[${signed(row.found.low)}, ${signed(row.found.high)}]`;
      svg("text", { x: width - RIGHT + 14, y: y + 28, "font-size": 13, text: `${signed(row.found.mean)} ${span}` }, canvas);
      svg("text", { x: width - RIGHT + 14, y: y + 44, "font-size": 13, "font-weight": 600, style: `fill:${colour}`, text: row.ruling }, canvas);
      y += ROW;
    }
    const count = (name) => rows.filter((row) => row.ruling === name).length;
    const counted = Object.keys(COLOURS).map((name) => `${count(name)} ${name}`).join(", ");
    const which = seeds ? `From the first ${seeds === 1 ? "seed" : `${seeds} seeds`}, as if that were all` : "From all seeds";
    says.textContent = rows.length
      ? `${which}: ${counted}. Dot and line: measured; blue bar: published; pale band: counts as alike.`
      : "No claim fits this choice.";
    root.dataset.state = `${choice.profile}, ${choice.table}, ${choice.data}, ${choice.metric}, ${seeds}, ${model.get("unpaired")}: ${counted}`;
  };
  const names = ["profile", "table", "data", "metric", "seeds", "unpaired"];
  const stops = [
    watch(model, names, draw),
    onResize(root, (space) => {
      width = clamp(space, 340, 640);
      draw();
    }),
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
