"use strict";
const all = (query, root = document) => [...root.querySelectorAll(query)];
const one = (query) => document.querySelector(query);
const trials = one("#trials"), bodies = all(":scope > tbody", trials), names = all("tr.names > th", trials);
const states = all("input[name=state]"), filters = all("tr.filters input", trials);
let marked = null; // numbers of the trials inside the stretches marked on parallel axes; null: none is marked

const value = (body, column) => {
  const cell = body.rows[0].cells[column], text = cell.dataset.v ?? cell.innerText.trim();
  return text === "" || isNaN(text) ? text : Number(text);
};

// Sorts numbers before texts, and what is empty last in both directions.
const compare = (a, b, sign) => {
  const kind = (v) => (v === "" ? 2 : typeof v === "string" ? 1 : 0);
  if (kind(a) !== kind(b)) return kind(a) === 2 || kind(b) === 2 ? kind(a) - kind(b) : sign * (kind(a) - kind(b));
  return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
};

const sort = (column) => {
  const head = names[column], falls = head.getAttribute("aria-sort") === "ascending";
  names.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", falls ? "descending" : "ascending");
  const keys = new Map(bodies.map((body) => [body, value(body, column)]));
  bodies.sort((a, b) => compare(keys.get(a), keys.get(b), falls ? -1 : 1));
  trials.append(...bodies);
};

// Returns a test for a condition such as ">= 0.5", "1e-5..3e-5" or a part of a text.
const condition = (text) => {
  const range = text.match(/^(\S+?)\s*\.\.\s*(\S+)$/), sign = text.match(/^(<=|>=|<|>|=|≤|≥)\s*(.*)$/);
  if (range && !isNaN(range[1]) && !isNaN(range[2])) {
    return (v) => typeof v === "number" && v >= Number(range[1]) && v <= Number(range[2]);
  }
  const limit = sign && sign[2] !== "" ? Number(sign[2]) : NaN;
  if (isNaN(limit)) return (v) => String(v).toLowerCase().includes(text.toLowerCase());
  const tests = { "<": (v) => v < limit, ">": (v) => v > limit, "=": (v) => v === limit };
  tests["<="] = tests["≤"] = (v) => v <= limit;
  tests[">="] = tests["≥"] = (v) => v >= limit;
  return (v) => typeof v === "number" && tests[sign[1]](v);
};

const filter = () => {
  const wanted = new Set(states.filter((box) => box.checked).map((box) => box.value));
  const tests = filters.map((input) => [Number(input.dataset.column), input.value.trim()]).filter(([, text]) => text)
    .map(([column, text]) => [column, condition(text)]);
  let shown = 0;
  for (const body of bodies) {
    const fits = wanted.has(body.dataset.state) && (marked === null || marked.has(Number(body.dataset.trial)))
      && tests.every(([column, test]) => test(value(body, column)));
    body.hidden = !fits;
    shown += fits;
  }
  one("#count").textContent = `${shown} of ${bodies.length} trials`;
};

const show = (column, visible) => {
  for (const row of all(":scope > thead > tr, :scope > tbody > tr:first-child", trials)) row.cells[column].hidden = !visible;
};

const reveal = (trial) => {
  const body = bodies.find((each) => each.dataset.trial === String(trial)), row = body.querySelector("details");
  body.hidden = false;
  row.open = true;
  row.scrollIntoView({ block: "center" });
  row.firstElementChild.focus({ preventScroll: true });
};

const reset = () => {
  states.forEach((box) => { box.checked = true; });
  filters.forEach((input) => { input.value = ""; });
  brush(one("#parallel"));
};

// Marks a stretch of each parallel axis inside a dragged box, or of the nearest one; without a box, no stretch is marked.
const brush = (plot, box) => {
  marked = null;
  if (plot?.dataset.drawn) {
    const { trials, places } = plot.layout.meta, ascending = (pair) => [...pair].sort((a, b) => a - b);
    const marks = (plot.marks = box ? plot.marks ?? new Map() : new Map());
    if (box) {
      const [left, right] = ascending(box.x), axes = [...places[0].keys()], inside = axes.filter((x) => x >= left && x <= right);
      const near = axes.sort((a, b) => Math.abs(a - (left + right) / 2) - Math.abs(b - (left + right) / 2))[0];
      for (const axis of inside.length ? inside : [near]) marks.set(axis, ascending(box.y));
    }
    const fits = (own) => [...marks].every(([axis, [low, high]]) => own[axis] >= low && own[axis] <= high);
    if (marks.size) marked = new Set(trials.filter((_, index) => fits(places[index])));
    const kept = plot.data.map((trace) => trace.meta.filter((index) => fits(places[index])));
    const lines = (get) => kept.map((indexes) => indexes.flatMap((index) => get(index)));
    const x = lines((index) => [...places[index].keys(), null]), y = lines((index) => [...places[index], null]);
    const customdata = lines((index) => Array(places[index].length + 1).fill(trials[index]));
    const bars = [...marks].map(([axis, [y0, y1]]) => ({ type: "rect", x0: axis - 0.05, x1: axis + 0.05, y0, y1, opacity: 0.4, fillcolor: "#1f78b4", line: { width: 0 } }));
    const rules = plot.layout.shapes.filter((shape) => shape.type === "line");
    Plotly.update(plot, { x, y, customdata }, { shapes: [...rules, ...bars], selections: [] });
  }
  filter();
};

const themed = (layout) => {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--grid"), zerolinecolor: colour("--grid"), linecolor: colour("--line"), automargin: true };
  const own = { paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: colour("--ink"), size: 12 } };
  const axes = Object.keys({ xaxis: 0, yaxis: 0, ...layout }).filter((key) => /^[xy]axis/.test(key));
  for (const key of axes) own[key] = { ...layout[key], ...axis };
  const margin = { l: 60, r: 20, t: 40, b: 45 };
  const legend = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 };
  return { margin, legend, ...layout, ...own };
};

const draw = async (plot, figures) => {
  const { data, layout } = figures[plot.id];
  await Plotly.newPlot(plot, data, themed(layout), { displayModeBar: false, responsive: true });
  plot.dataset.drawn = "yes";
  plot.closest(".plot").classList.add("drawn");
  plot.on("plotly_click", ({ points: [point] }) => { if (point.customdata != null) reveal(point.customdata); });
  if (plot.id !== "parallel") return;
  plot.on("plotly_selected", (event) => { if (event?.range) brush(plot, event.range); });
  plot.on("plotly_deselect", () => brush(plot));
};

// Loads Plotly's code, which the page carries packed, and draws each chart when it comes near the screen.
const charts = async () => {
  const packed = Uint8Array.from(atob(one("#plotly").textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const figures = JSON.parse(one("#figures").textContent), plots = all(".plot > div");
  const near = new IntersectionObserver((seen) => seen.forEach(({ isIntersecting, target }) => {
    if (isIntersecting && !target.dataset.drawn) draw(target, figures);
  }), { rootMargin: "300px" });
  plots.forEach((plot) => { plot.closest(".plot").classList.remove("waiting"); near.observe(plot); });
  const redraw = () => plots.filter((plot) => plot.dataset.drawn).forEach((plot) => Plotly.relayout(plot, themed(plot.layout)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
};

document.documentElement.classList.add("js");
names.forEach((head, column) => {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  button.addEventListener("click", () => sort(column));
  head.append(button);
});
[...states, ...filters].forEach((input) => input.addEventListener("input", filter));
all("input[name=column]").forEach((box) => box.addEventListener("input", () => show(Number(box.value), box.checked)));
one("#reset").addEventListener("click", reset);
filter();
setTimeout(charts); // after the table is on the screen
