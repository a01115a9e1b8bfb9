// One image: its masks painted from the map of ids, at once for what is known, and exactly when the server has answered.

import { labelName, passes, toQuery } from "/filters.js";

const stage = document.getElementById("stage"), sheet = document.getElementById("sheet");
const picture = document.getElementById("image"), canvas = document.getElementById("overlay");
const tip = document.getElementById("tip"), list = document.getElementById("mask-list");
const on = (name) => document.getElementById("show-" + name).checked;

let place = null, row = null, ids = null, details = null, edges = null;
let hovered = 0, pinned = 0, loading = 0, timer = 0;
let view = { scale: 1, x: 0, y: 0 };

export function startImage(description) {
  place = description;
  for (const name of ["masks", "outlines", "boxes", "points"]) {
    document.getElementById("show-" + name).addEventListener("change", paint);
  }
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerleave", () => { hover(0); tip.hidden = true; });
  stage.addEventListener("click", (event) => { if (!dragged) { pinned = idAt(event) === pinned ? 0 : idAt(event); hover(pinned); } });
  stage.addEventListener("dblclick", fit);
  stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), event); }, { passive: false });
  stage.addEventListener("pointerdown", grab);
  new ResizeObserver(fit).observe(stage);
}

export async function openImage(next) {
  row = next; ids = edges = details = null; hovered = pinned = 0; tip.hidden = true;
  picture.src = `/image/${row.index}.jpg?v=${place.session}`;
  picture.alt = `${row.file_name} with ${row.masks.ids.length} masks`;
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  fit();
  listMasks();
  await loadMap();
  const answer = await fetch(`/api/row/${row.index}`);
  const found = answer.ok ? await answer.json() : null;
  if (row === next) { details = found; paint(); } // unless another image was opened meanwhile
}

// Filters changed: what is hidden goes at once; what it had covered comes with the new map.
export function refilter() {
  if (!row) return;
  if (hovered && !passes(row.masks, hovered - 1)) { hovered = pinned = 0; tip.hidden = true; }
  listMasks();
  paint();
  clearTimeout(timer);
  timer = setTimeout(loadMap, 60);
}

async function loadMap() {
  const ticket = ++loading, query = toQuery();
  query.set("v", place.session);
  const map = new Image();
  map.src = `/ids/${row.index}.png?${query}`;
  try { await map.decode(); } catch { document.getElementById("facts").textContent = "the masks of this image cannot be drawn"; return; }
  if (ticket !== loading) return;
  const width = canvas.width = map.naturalWidth, height = canvas.height = map.naturalHeight;
  const hidden = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  hidden.drawImage(map, 0, 0);
  const bytes = hidden.getImageData(0, 0, width, height).data;
  ids = new Uint16Array(width * height);
  for (let i = 0; i < ids.length; i++) ids[i] = bytes[4 * i] | (bytes[4 * i + 1] << 8);
  edges = findEdges(ids, width, height);
  paint();
  stage.dataset.ready = `${row.index}?${toQuery()}`;
}

function findEdges(map, width, height) {
  const found = new Uint8Array(map.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const i = y * width + x;
    if (x && map[i] !== map[i - 1]) found[i] = found[i - 1] = 1;
    if (y && map[i] !== map[i - width]) found[i] = found[i - width] = 1;
  }
  return found;
}

export const colour = (i) => place.palette[i % place.palette.length];

function paint() {
  const context = canvas.getContext("2d"), width = canvas.width, height = canvas.height;
  context.clearRect(0, 0, width, height);
  if (!ids || !row) return;
  const count = row.masks.ids.length, fill = new Uint32Array(count + 1), line = new Uint32Array(count + 1), lit = hovered;
  if (on("masks")) for (let i = 0; i < count; i++) {
    if (!passes(row.masks, i)) continue;
    const [red, green, blue] = colour(i), words = red | (green << 8) | (blue << 16);
    const alpha = !lit ? 115 : lit === i + 1 ? 165 : 40;
    fill[i + 1] = (words | (alpha << 24)) >>> 0;
    line[i + 1] = on("outlines") ? (words | ((!lit || lit === i + 1 ? 255 : 90) << 24)) >>> 0 : fill[i + 1];
  }
  if (lit) { line[lit] = 0xffffffff; if (!fill[lit]) fill[lit] = 0x55ffffff; }
  const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = edges[i] ? line[ids[i]] : fill[ids[i]];
  context.putImageData(image, 0, 0);
  if (details) drawDetails(context, width / row.width);
}

function drawDetails(context, factor) {
  context.lineWidth = 2;
  for (let i = 0; i < row.masks.ids.length; i++) {
    if (!passes(row.masks, i) || (hovered && hovered !== i + 1)) continue;
    const [x, y, w, h] = details.boxes_xywh[i].map((value) => value * factor);
    context.strokeStyle = context.fillStyle = `rgb(${colour(i)})`;
    if (on("boxes")) context.strokeRect(x, y, w, h);
    if (on("points")) for (const [px, py] of details.points_xy[i]) {
      context.beginPath(); context.arc(px * factor, py * factor, 5, 0, 7); context.fill();
      context.strokeStyle = "white"; context.stroke();
    }
  }
}

function listMasks() {
  const masks = row.masks, order = [...masks.ids.keys()].filter((i) => passes(masks, i)).sort((a, b) => masks.area[b] - masks.area[a]);
  list.replaceChildren(...order.map((i) => {
    const line = document.createElement("button"), swatch = document.createElement("span");
    const name = document.createElement("span"), area = document.createElement("span"), note = document.createElement("small");
    Object.assign(line, { type: "button", tabIndex: i === order[0] ? 0 : -1 });
    line.dataset.mask = i + 1;
    line.setAttribute("role", "option");
    swatch.className = "swatch";
    swatch.style.background = `rgb(${colour(i)})`;
    name.textContent = masks.label ? labelName(masks.label[i], place.label_names) : masks.ids[i];
    area.textContent = masks.area[i].toLocaleString("en");
    note.textContent = scores(i) + (masks.label ? ` · ${masks.ids[i]}` : "");
    line.append(swatch, name, area, note);
    line.addEventListener("pointerenter", () => hover(i + 1, false));
    line.addEventListener("pointerleave", () => hover(pinned, false));
    line.addEventListener("focus", () => hover(i + 1, false));
    return line;
  }));
  document.getElementById("facts").textContent =
    `${row.width} × ${row.height} · ${order.length} of ${masks.ids.length} masks` + (row.shard ? ` · ${row.shard}` : "");
}

list.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], lines = [...list.children];
  if (!step || !lines.length) return;
  event.preventDefault(); event.stopPropagation();
  lines[Math.min(Math.max(lines.indexOf(document.activeElement) + step, 0), lines.length - 1)].focus();
});

const fixed = (value) => (value === null ? "–" : value.toFixed(3));
const scores = (i) => `iou ${fixed(row.masks.predicted_iou[i])} · stability ${fixed(row.masks.stability_score[i])}`;

function hover(id, scroll = true) {
  if (id === hovered) return;
  hovered = id;
  for (const line of list.children) {
    const isOn = Number(line.dataset.mask) === id;
    line.classList.toggle("on", isOn);
    line.setAttribute("aria-selected", isOn);
    if (isOn && scroll) line.scrollIntoView({ block: "nearest" });
  }
  paint();
}

function idAt(event) {
  const box = canvas.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / box.width * canvas.width);
  const y = Math.floor((event.clientY - box.top) / box.height * canvas.height);
  if (!ids || x < 0 || y < 0 || x >= canvas.width || y >= canvas.height) return 0;
  const id = ids[y * canvas.width + x];
  return id && passes(row.masks, id - 1) ? id : 0;
}

function move(event) {
  const id = idAt(event), box = stage.getBoundingClientRect();
  hover(id || pinned);
  tip.hidden = !id;
  if (!id) return;
  const masks = row.masks, title = document.createElement("b");
  title.textContent = masks.label
    ? labelName(masks.label[id - 1], place.label_names) + (masks.label_score[id - 1] === null ? "" : ` ${fixed(masks.label_score[id - 1])}`)
    : `mask ${masks.ids[id - 1]}`;
  const which = masks.label ? `mask ${masks.ids[id - 1]} · ` : "";
  tip.replaceChildren(title, `${which}${masks.area[id - 1].toLocaleString("en")} px`, document.createElement("br"), scores(id - 1));
  const left = event.clientX - box.left + 16, top = event.clientY - box.top + 16;
  tip.style.left = Math.min(left, box.width - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(top, box.height - tip.offsetHeight - 8) + "px";
}

function fit() {
  if (!row) return;
  const margin = 12, scale = Math.min((stage.clientWidth - 2 * margin) / row.width, (stage.clientHeight - 2 * margin) / row.height);
  sheet.style.width = row.width + "px"; sheet.style.height = row.height + "px";
  view = { scale, x: (stage.clientWidth - row.width * scale) / 2, y: (stage.clientHeight - row.height * scale) / 2 };
  placeSheet();
}

function placeSheet() { sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`; }

export function zoom(factor, event = null) {
  if (factor === 0) return fit();
  const box = stage.getBoundingClientRect();
  const x = event ? event.clientX - box.left : box.width / 2, y = event ? event.clientY - box.top : box.height / 2;
  const scale = Math.min(Math.max(view.scale * factor, 0.02), 40), ratio = scale / view.scale;
  view = { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
  placeSheet();
}

let dragged = false;

function grab(event) {
  dragged = false;
  const from = { x: event.clientX - view.x, y: event.clientY - view.y }, begin = { x: event.clientX, y: event.clientY };
  const pull = (moved) => {
    if (Math.hypot(moved.clientX - begin.x, moved.clientY - begin.y) > 4) dragged = true;
    if (dragged) { view.x = moved.clientX - from.x; view.y = moved.clientY - from.y; placeSheet(); }
  };
  window.addEventListener("pointermove", pull);
  window.addEventListener("pointerup", () => window.removeEventListener("pointermove", pull), { once: true });
}
