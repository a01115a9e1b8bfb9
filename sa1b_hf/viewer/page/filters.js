// Which masks are wanted: the sliders, their histograms, and the address that holds them.

const BINS = 55;

export const limits = {}; // min_predicted_iou, min_stability_score, min_area, max_area: numbers, where set
export const chosen = new Set(); // labels; none chosen means all

export const isFiltering = () => Object.keys(limits).length > 0 || chosen.size > 0;

export function passes(masks, i) {
  // a score that is not known (null) passes no limit, as on the server
  const { min_predicted_iou: iou, min_stability_score: stability, min_area: low, max_area: high } = limits;
  if (iou !== undefined && !(masks.predicted_iou[i] !== null && masks.predicted_iou[i] >= iou)) return false;
  if (stability !== undefined && !(masks.stability_score[i] !== null && masks.stability_score[i] >= stability)) return false;
  if (low !== undefined && masks.area[i] < low) return false;
  if (high !== undefined && masks.area[i] > high) return false;
  return chosen.size === 0 || chosen.has(masks.label ? masks.label[i] : -1);
}

export function countPassing(masks) {
  let count = 0;
  for (let i = 0; i < masks.ids.length; i++) if (passes(masks, i)) count++;
  return count;
}

export function toQuery() {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(limits)) query.set(name, String(value));
  if (chosen.size) query.set("labels", [...chosen].sort((a, b) => a - b).join(","));
  return query;
}

export function fromQuery(query) {
  for (const name of ["min_predicted_iou", "min_stability_score", "min_area", "max_area"]) {
    const text = query.get(name);
    delete limits[name];
    if (text && Number.isFinite(Number(text))) limits[name] = Number(text);
  }
  chosen.clear();
  for (const word of (query.get("labels") || "").split(",")) if (/^-?\d+$/.test(word)) chosen.add(Number(word));
}

class Slider {
  constructor(box, changed) {
    this.name = box.dataset.name;
    this.field = box.dataset.field;
    this.isLog = box.dataset.scale === "log";
    this.isMax = box.dataset.side === "max";
    this.input = box.querySelector("input");
    this.output = box.querySelector("output");
    this.canvas = box.querySelector("canvas");
    this.counts = null;
    this.input.addEventListener("input", () => {
      const position = Number(this.input.value), end = this.isMax ? this.input.max : this.input.min;
      if (position === Number(end)) delete limits[this.name];
      else limits[this.name] = this.isLog ? Math.round(10 ** position) : Number(position.toFixed(4));
      changed();
    });
  }

  toPosition(value) { return this.isLog ? Math.log10(Math.max(value, 1)) : value; }

  // fit the range to the values that are known, in whole steps so that it seldom moves
  adapt(rows) {
    let low = Infinity, high = -Infinity;
    for (const row of rows) for (const value of row.masks[this.field]) {
      if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
    }
    if (low > high) { low = 0; high = 1; }
    const step = this.isLog ? 0.02 : 0.005, grain = this.isLog ? 0.5 : 0.01;
    const from = Math.floor(this.toPosition(low) / grain + 1e-9) * grain;
    const to = Math.max(Math.ceil(this.toPosition(high) / grain - 1e-9) * grain, from + grain);
    Object.assign(this.input, { min: from.toFixed(4), max: to.toFixed(4), step });
    this.low = from; this.high = to;
    this.counts = new Uint32Array(BINS);
    for (const row of rows) for (const value of row.masks[this.field]) {
      if (value === null) continue;
      const bin = Math.floor((this.toPosition(value) - from) / (to - from) * BINS);
      this.counts[Math.min(Math.max(bin, 0), BINS - 1)]++;
    }
    this.show();
  }

  show() {
    const value = limits[this.name], none = this.isMax ? this.input.max : this.input.min;
    this.input.value = value === undefined ? none : this.toPosition(value);
    this.output.textContent = value === undefined ? "any" : (this.isMax ? "≤ " : "≥ ") + value.toLocaleString("en");
    this.input.setAttribute("aria-valuetext", this.output.textContent);
    if (this.canvas && this.counts) this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d"), { width, height } = this.canvas;
    const style = getComputedStyle(document.documentElement), most = Math.max(...this.counts, 1);
    const bound = (name) => (limits[name] === undefined ? null : this.toPosition(limits[name]));
    const low = bound("min_" + this.field), high = bound("max_" + this.field);
    context.clearRect(0, 0, width, height);
    for (let bin = 0; bin < BINS; bin++) {
      const middle = this.low + (bin + 0.5) / BINS * (this.high - this.low);
      const isIn = (low === null || middle >= low) && (high === null || middle <= high);
      context.fillStyle = style.getPropertyValue(isIn ? "--accent" : "--line");
      const tall = Math.max(this.counts[bin] / most * (height - 4), this.counts[bin] ? 3 : 0);
      context.fillRect(bin * width / BINS + 1, height - tall, width / BINS - 2, tall);
    }
  }
}

let sliders = [];

export function startFilters(form, changed) {
  sliders = [...form.querySelectorAll(".filter")].map((box) => new Slider(box, changed));
  form.addEventListener("reset", (event) => {
    event.preventDefault(); // the switches below are no filters
    for (const name of Object.keys(limits)) delete limits[name];
    chosen.clear();
    changed();
  });
}

export function adaptFilters(rows) { for (const slider of sliders) slider.adapt(rows); }

export function showFilters() {
  for (const slider of sliders) slider.show();
  for (const box of document.querySelectorAll("#label-list input")) box.checked = chosen.has(Number(box.value));
}

export function listLabels(rows, names, changed) {
  const counts = new Map();
  for (const row of rows) for (const label of row.masks.label || []) counts.set(label, (counts.get(label) || 0) + 1);
  const list = document.getElementById("label-list"), search = document.getElementById("label-search");
  document.getElementById("labels").hidden = counts.size === 0;
  const lines = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 500).map(([label, count]) => {
    const line = document.createElement("label"), box = document.createElement("input"), number = document.createElement("i");
    Object.assign(box, { type: "checkbox", value: label, checked: chosen.has(label) });
    box.addEventListener("change", () => { box.checked ? chosen.add(label) : chosen.delete(label); changed(); });
    number.textContent = count.toLocaleString("en");
    line.append(box, labelName(label, names), number);
    return line;
  });
  list.replaceChildren(...lines);
  search.oninput = () => {
    for (const line of lines) line.hidden = !line.textContent.toLowerCase().includes(search.value.toLowerCase());
  };
  search.oninput();
}

export function labelName(label, names) {
  return label < 0 ? "no label" : names[label] || "label " + label;
}
