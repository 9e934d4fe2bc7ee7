// The view that explains: one image, some words, and the map of their energy.

import { get, imageFile, post, showImage } from "./api.js";
import { EnergyMap, rampGradient } from "./map.js";
import { bar, complain, element, fixed, mosaic, percent, unit } from "./words.js";

const $ = (id) => document.getElementById(id);
const words = $("look-words"), image = $("image"), canvas = $("map");
const DOUBTFUL = 0.1; // probability of match below which words hardly fit
const map = new EnergyMap(canvas, image);

let about = null;
let file = null; // the image where it is no item of the store
let row = null;
let found = null; // the answer on the page
let running = null;
let similar = () => {};

export function start(served, choose, searchImage) {
  about = served;
  similar = searchImage;
  $("look-mosaic").replaceChildren(...mosaic(about.examples, showImage));
  $("ramp").style.background = rampGradient();
  $("look-choose").addEventListener("click", choose);
  $("look-other").addEventListener("click", choose);
  $("look-ask").addEventListener("submit", (event) => {
    event.preventDefault();
    go();
  });
  $("strength").addEventListener("input", (event) => {
    map.strength = event.target.value / 100;
    map.draw();
  });
  $("similar").addEventListener("click", async () => {
    try {
      similar(file ?? (await imageFile(row)));
    } catch (error) {
      complain($("look-trouble"), error);
    }
  });
  new ResizeObserver(() => map.draw()).observe(canvas);
  image.addEventListener("load", () => shape(image.naturalWidth, image.naturalHeight));
  canvas.addEventListener("pointermove", (event) => read(map.under(event.clientX, event.clientY)));
  canvas.addEventListener("pointerleave", () => read(null));
  canvas.addEventListener("keydown", walk);
  canvas.addEventListener("blur", () => read(null));
}

/** Show the view for what the address says; `from` is the address of results to go back to. */
export async function open(query, from) {
  $("back").hidden = from === null;
  if (from !== null) $("back").href = from;
  const text = query.get("text") ?? "";
  const asked = query.has("row") ? Number(query.get("row")) : null;
  if (asked === null && file === null) return reset();
  if (asked !== null && asked !== row) {
    reset();
    row = asked;
    stage();
    showImage(image, row, 1280).catch((error) => complain($("look-trouble"), error));
    words.value = text;
    describe();
  }
  if (text && (text !== found?.maps[0].text || words.value !== text)) {
    words.value = text;
    await explain();
  } else if (!text && row !== null && !found) words.focus({ preventScroll: true });
}

/** Look into an image that was dropped, pasted or chosen. */
export function lookAt(chosen) {
  reset();
  file = chosen;
  stage();
  image.src = URL.createObjectURL(chosen);
  $("look-caption").textContent = chosen.name || "pasted image";
  history.replaceState(null, "", "#/look");
  if (words.value.trim()) explain();
  else words.focus();
}

function reset() {
  running?.abort();
  URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  file = row = found = null;
  map.show(null);
  for (const id of ["looking", "reading", "captions-part", "similar", "busy"]) $(id).hidden = true;
  $("look-empty").hidden = false;
  $("look-start").hidden = about.examples.length === 0;
  $("look-trouble").replaceChildren();
  $("look-caption").textContent = "";
}

function stage() {
  $("look-empty").hidden = $("look-start").hidden = true;
  $("looking").hidden = false;
  $("similar").hidden = about.items === null;
}

/** Give the frame the image's shape, so that nothing moves when it arrives. */
function shape(width, height) {
  $("frame").style.setProperty("--ratio", `${width / height}`);
}

/** The item's captions, each of which can be looked for. */
async function describe() {
  const asked = row;
  try {
    const item = await get(`/items/${asked}`);
    if (asked !== row) return;
    image.alt = item.captions[0] ?? item.id;
    shape(item.width, item.height);
    $("look-caption").textContent = `${item.id}, ${item.width} × ${item.height} pixels, ${item.split} split`;
    $("captions-part").hidden = item.captions.length === 0;
    $("captions").replaceChildren(...item.captions.map((caption) =>
      element("li", {}, element("button", { type: "button", onclick: () => ask(caption) }, caption))));
    mark();
  } catch (error) {
    complain($("look-trouble"), error);
  }
}

function ask(text) {
  words.value = text;
  go();
}

/** Look for the words in the field, as an entry of the browser's history. */
function go() {
  const text = words.value.trim();
  if (!text) return words.focus();
  const query = new URLSearchParams(row === null ? { text } : { row, text });
  const address = `#/look?${query}`;
  if (address !== location.hash) history.pushState(null, "", address);
  explain();
}

async function explain() {
  const text = words.value.trim();
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  $("busy").hidden = false;
  $("look-trouble").replaceChildren();
  mark();
  try {
    const answer = await post("/explain", { text, ...(file ? { image: file } : { row }) }, signal);
    found = answer;
    show();
    $("busy").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    $("busy").hidden = true;
    map.show(null);
    $("reading").hidden = true;
    complain($("look-trouble"), error, error.status === 0 || error.status === 429 ? explain : null);
  }
}

function show() {
  const one = found.maps[0], { form } = found;
  $("reading").hidden = false;
  map.show(one, found);
  $("pair").replaceChildren(fixed(one.pair, form), " ", element("small", {}, `${unit(form)}, low = fits`));
  $("chance-part").hidden = one.probability === null;
  if (one.probability !== null) {
    $("chance").textContent = percent(one.probability);
    $("rate").textContent = `base rate ${percent(found.base_rate)}`;
    $("chance-bar").replaceChildren(bar(one.probability, found.base_rate));
  }
  const doubts = [
    one.probability !== null && one.probability < DOUBTFUL && "The words hardly fit the image: the map only shows where they fit least badly.",
    one.flat && "This map is nearly the same for unrelated words: it may show what stands out in the image rather than where the words are.",
  ].filter(Boolean);
  $("look-doubt").replaceChildren(...doubts.map((said) => element("p", { className: "notice plain" }, said)));
  $("low").textContent = fixed(map.low, form);
  $("high").textContent = fixed(map.high, form);
  $("unit").textContent = unit(form);
  canvas.setAttribute("aria-label", `Energy map of “${one.text}”: lowest ${cellInWords(one.row, one.column)}. Arrow keys read single cells.`);
  read(null);
}

function mark() {
  for (const button of $("captions").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.textContent === words.value.trim()));
  }
}

function read(cell) {
  if (!found || canvas.hidden) return;
  const one = found.maps[0], [r, c] = cell ?? [one.row, one.column];
  map.cell = cell;
  map.draw();
  const value = one.energy[r][c];
  $("pointer").hidden = cell === null;
  $("pointer").style.left = `${100 * map.level(value)}%`;
  $("cell").textContent = cell ? `${cellInWords(r, c)}: ${fixed(value, found.form)}` : `Lowest in ${cellInWords(r, c)}`;
}

function cellInWords(r, c) {
  return `row ${r + 1}, column ${c + 1}`;
}

function walk(event) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!step || !found) return;
  event.preventDefault();
  const last = found.grid - 1, one = found.maps[0], [r, c] = map.cell ?? [one.row, one.column];
  const moved = map.cell ? [r + step[0], c + step[1]] : [r, c];
  read(moved.map((at) => Math.min(Math.max(at, 0), last)));
}
