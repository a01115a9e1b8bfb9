// The page: its address says what is shown, and everything else follows from it.

import { adaptFilters, countPassing, fromQuery, isFiltering, listLabels, showFilters, startFilters, toQuery } from "/filters.js";
import { openImage, refilter, startImage, zoom } from "/image.js";

const $ = (id) => document.getElementById(id);
const STEP = 60;
const rows = []; // summaries, in order
const tiles = []; // their tiles
const visible = new Set();
let place = null, complete = false, reading = null, current = null, problem = null, thumbnails = 0;

async function ask(path) {
  const answer = await fetch(path);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || answer.statusText);
  return content;
}

// --- rows and the grid

function readMore() {
  reading = reading || ask(`/api/rows?start=${rows.length}&count=${STEP}`).then((found) => {
    for (const row of found.rows) { rows.push(row); tiles.push(makeTile(row)); }
    $("grid").append(...tiles.slice(rows.length - found.rows.length));
    complete = found.complete && rows.length >= found.known;
    problem = found.problem;
    if (found.rows.length) { adaptFilters(rows); listLabels(rows, place.label_names, filtersChanged); }
    refresh();
  }).catch((error) => { complete = true; problem = error.message; refresh(); }).finally(() => { reading = null; });
  return reading;
}

function makeTile(row) {
  const tile = document.createElement("a"), frame = document.createElement("span"), picture = document.createElement("img");
  const caption = document.createElement("span"), name = document.createElement("span"), count = document.createElement("span");
  tile.className = "tile"; frame.className = "frame"; caption.className = "caption";
  picture.alt = ""; picture.decoding = "async";
  name.textContent = row.file_name;
  frame.append(picture); caption.append(name, count); tile.append(frame, caption);
  tile.index = row.index;
  onScreen.observe(tile);
  return tile;
}

const onScreen = new IntersectionObserver((changes) => {
  for (const change of changes) {
    if (!change.isIntersecting) { visible.delete(change.target); continue; }
    visible.add(change.target);
    showThumbnail(change.target);
  }
}, { root: $("main"), rootMargin: "200px" });

new IntersectionObserver((changes) => {
  if (changes.some((change) => change.isIntersecting)) fillScreen();
}, { root: $("main"), rootMargin: "600px" }).observe($("more"));

// With strict filters most tiles are hidden: read on until the screen is full, or there is no more.
async function fillScreen() {
  while (place && !complete && !$("grid-view").hidden && $("more").getBoundingClientRect().top < innerHeight + 600) await readMore();
}

function thumbnailQuery() {
  const query = $("show-masks").checked ? toQuery() : new URLSearchParams();
  query.set("masks", $("show-masks").checked ? "1" : "0");
  query.set("v", place.session);
  return query.toString();
}

function showThumbnail(tile) {
  const address = `/thumbnail/${tile.index}.jpg?${thumbnailQuery()}`, picture = tile.querySelector("img");
  if (picture.getAttribute("src") !== address) picture.src = address;
}

function refresh() {
  let images = 0, masks = 0;
  const query = toQuery().toString();
  rows.forEach((row, i) => {
    const count = countPassing(row.masks), all = row.masks.ids.length;
    row.isShown = count > 0 || !isFiltering();
    images += row.isShown; masks += count;
    tiles[i].hidden = !row.isShown;
    tiles[i].href = `#image_id=${row.image_id}${query && "&" + query}`;
    tiles[i].lastChild.lastChild.textContent = count === all ? `${all} masks` : `${count} of ${all} masks`;
  });
  $("status").textContent = `${images.toLocaleString("en")} of ${rows.length.toLocaleString("en")}${complete ? "" : "+"} images · ${masks.toLocaleString("en")} masks`;
  $("more").textContent = problem || (complete ? (images ? "" : "No mask passes these filters.") : "reading …");
  clearTimeout(thumbnails);
  thumbnails = setTimeout(() => visible.forEach(showThumbnail), 120);
}

// --- the address

function writeAddress(push = false) {
  const query = new URLSearchParams(current === null ? {} : { image_id: rows[current].image_id });
  for (const [name, value] of toQuery()) query.set(name, value);
  history[push ? "pushState" : "replaceState"](null, "", "#" + query.toString().replaceAll("%2C", ","));
}

async function readAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  fromQuery(query);
  showFilters(); refresh();
  const wanted = query.get("image_id");
  if (!wanted) return showGrid();
  let index = rows.findIndex((row) => String(row.image_id) === wanted);
  if (index < 0) {
    try { index = (await ask(`/api/find/${encodeURIComponent(wanted)}`)).index; } catch (error) { toast(error.message); return showGrid(); }
    while (rows.length <= index && !complete) await readMore();
  }
  if (current === index) return refilter();
  showImage(index);
}

function filtersChanged() { showFilters(); refresh(); refilter(); writeAddress(); fillScreen(); }

function showGrid() {
  const last = current;
  current = null;
  $("image-view").hidden = true; $("grid-view").hidden = false;
  document.title = `${place.name} · sa1b view`;
  if (last !== null) tiles[last].focus();
  fillScreen();
}

function showImage(index) {
  current = index;
  $("grid-view").hidden = true; $("image-view").hidden = false;
  $("title").textContent = rows[index].file_name;
  document.title = `${rows[index].file_name} · sa1b view`;
  openImage(rows[index]);
  if (index > rows.length - 10 && !complete) readMore();
}

function step(by) {
  for (let index = current + by; index >= 0 && index < rows.length; index += by) {
    if (rows[index].isShown) { showImage(index); writeAddress(true); return; }
  }
  toast(by > 0 ? "This is the last image." : "This is the first image.");
}

function leaveImage() { if (current !== null) { showGrid(); writeAddress(true); } }

// --- what the selection is good for

async function copyCode() {
  const text = await (await fetch(`/api/code?${toQuery()}`)).text();
  $("code").textContent = text;
  $("code-dialog").showModal();
  try { await navigator.clipboard.writeText(text); toast("Copied."); } catch { toast("Select the lines and copy them."); }
}

function exportIds() {
  const link = document.createElement("a");
  link.href = `/api/export?${toQuery()}`;
  link.download = "selection.txt";
  link.click();
  toast("Ids of the selected images: for ids= of load_dataset.");
}

function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  setTimeout(() => $("toast").classList.remove("on"), 2600);
}

function switchTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  showFilters();
}

// --- keys

function moveInGrid(key) {
  const shown = tiles.filter((tile) => !tile.hidden), at = shown.indexOf(document.activeElement);
  const across = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[key];
  const next = shown[at < 0 ? 0 : Math.min(Math.max(at + by, 0), shown.length - 1)];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
}

const toggle = (name) => () => $("show-" + name).click();
const KEYS = {
  m: toggle("masks"), o: toggle("outlines"), b: toggle("boxes"), p: toggle("points"),
  c: copyCode, e: exportIds, t: switchTheme, r: () => $("reset").click(), f: () => document.querySelector("#filters input").focus(),
  "?": () => $("help-dialog").showModal(), "+": () => zoom(1.25), "-": () => zoom(0.8), 0: () => zoom(0), Escape: leaveImage,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const kind = event.target.type;
  if (kind === "search" && event.key !== "Escape") return;
  if (event.key.startsWith("Arrow")) {
    if (kind === "range") return;
    if (current === null) { event.preventDefault(); moveInGrid(event.key); }
    else if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
  } else if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
});

$("home").onclick = (event) => { event.preventDefault(); leaveImage(); };
$("back").onclick = leaveImage;
$("previous").onclick = () => step(-1);
$("next").onclick = () => step(1);
$("copy").onclick = copyCode;
$("export").onclick = exportIds;
$("theme").onclick = switchTheme;
$("help").onclick = () => $("help-dialog").showModal();
$("show-masks").addEventListener("change", refresh);
addEventListener("hashchange", readAddress);

place = await ask("/api/place");
$("place").textContent = place.name;
startFilters($("filters"), filtersChanged);
startImage(place);
fromQuery(new URLSearchParams(location.hash.slice(1)));
await readMore();
await readAddress();
