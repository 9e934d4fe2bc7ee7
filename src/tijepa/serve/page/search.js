// The view that searches: by words as they are typed, or by an image.

import { get, post, showImage } from "./api.js";
import * as columns from "./columns.js";
import { bar, complain, count, element, energy, fixed, mosaic, percent, seconds, unit } from "./words.js";

const PATIENCE = 240; // milliseconds without a key until words are searched
const FEW = 24;
const MOST = 200;

const $ = (id) => document.getElementById(id);
const view = $("search"), words = $("words"), where = $("where"), by = $("by"), list = $("results");

let about = null;
let image = null; // a File, or null
let wanted = FEW;
let running = null; // of the request under way
let shown = null; // what the results on the page belong to
let found = null; // the answer on the page
let timer = 0;

export function start(served) {
  about = served;
  if (about.items === null) {
    $("ask").hidden = true;
    $("search-title").textContent = "No store is served";
    $("search-about").replaceChildren(
      "Start the server with one, ", element("code", {}, "tijepa serve RUN STORE"),
      ", to search it. Without a store you can still ",
      element("a", { href: "#/look" }, "look into an image"), ".");
    return;
  }
  $("search-about").textContent =
    `${count(about.items)} items of ${about.store}. Type what you look for, or drop an image.`;
  const short = [...about.examples].sort((a, b) => a.caption.length - b.caption.length);
  const captions = [...new Set(short.map((one) => one.caption))].slice(0, 5);
  $("chips").replaceChildren(...captions.map((caption) =>
    element("li", {}, element("button", { type: "button", onclick: () => ask(caption) }, caption))));
  $("mosaic").replaceChildren(...mosaic(about.examples, showImage));
  words.addEventListener("input", () => later());
  where.addEventListener("input", () => later());
  by.addEventListener("change", () => search());
  columns.start(about.columns, search, () => {
    history.replaceState(null, "", address(words.value.trim()));
    if (found) show(words.value.trim());
  });
  words.addEventListener("keydown", (event) => {
    if (event.key === "Escape") words.value = "", later();
    if (event.key === "Backspace" && words.value === "" && image) setImage(null);
  });
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    search();
  });
  $("drop-image").addEventListener("click", () => setImage(null));
  $("more").addEventListener("click", () => {
    wanted = Math.min(MOST, wanted * 2);
    search();
  });
}

/** Show the view for what the address says. */
export function open(query) {
  if (about.items === null) return;
  const text = query.get("text") ?? "";
  columns.open(query);
  if (image && !query.has("image")) setImage(null, false);
  if (text !== words.value) words.value = text;
  search();
}

/** Search by an image that was dropped, pasted or chosen. */
export function searchImage(file) {
  words.value = "";
  setImage(file);
}

export function focus() {
  words.focus();
  words.select();
}

function ask(text) {
  words.value = text;
  words.focus();
  search();
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(search, PATIENCE);
  if (words.value && image) setImage(null, false);
}

function setImage(file, now = true) {
  image = file;
  $("asked-image").hidden = !file;
  words.placeholder = file ? "" : "two dogs on a beach";
  if (file) {
    URL.revokeObjectURL($("asked-thumb").src);
    $("asked-thumb").src = URL.createObjectURL(file);
    $("asked-name").textContent = file.name || "image";
  }
  if (now) search();
}

function address(text) {
  const query = new URLSearchParams();
  if (text) query.set("text", text);
  if (image) query.set("image", "");
  if (where.value.trim()) query.set("where", where.value.trim());
  if (columns.names()) query.set("columns", columns.names());
  return `#/${query.size ? `?${query}` : ""}`;
}

async function search() {
  const text = words.value.trim();
  const key = JSON.stringify([text, image && [image.name, image.size, image.lastModified, by.value], where.value.trim()]);
  if (key !== shown?.key) wanted = FEW;
  columns.mark();
  history.replaceState(null, "", address(text));
  running?.abort();
  $("search-trouble").replaceChildren();
  view.classList.toggle("asked", Boolean(text || image));
  $("start").hidden = Boolean(text || image) || about.examples.length === 0;
  if (!text && !image) return clear();
  if (key === shown?.key && wanted === shown.wanted) return;
  running = new AbortController();
  const { signal } = running;
  const slow = setTimeout(skeleton, key === shown?.key ? 1e9 : 160);
  const query = { k: wanted, where: where.value.trim() };
  try {
    found = image
      ? await post("/search", { ...query, image, by: by.value }, signal)
      : await get("/search", { ...query, text }, signal);
    shown = { key, wanted };
    show(text);
  } catch (error) {
    if (error.name === "AbortError") return;
    clear();
    complain($("search-trouble"), error, search);
  } finally {
    clearTimeout(slow);
  }
}

function clear() {
  shown = found = null;
  $("order-part").hidden = true;
  list.replaceChildren();
  list.removeAttribute("aria-busy");
  $("search-status").textContent = "";
  $("more").hidden = true;
}

function skeleton() {
  list.setAttribute("aria-busy", "true");
  $("search-status").textContent = "Searching…";
  list.replaceChildren(...Array.from({ length: 8 }, () => {
    const wait = element("li", { className: "wait card" },
      element("span", { className: "thumb" }), element("span", { className: "caption" }));
    wait.setAttribute("aria-hidden", "true");
    return wait;
  }));
}

function show(text) {
  list.removeAttribute("aria-busy");
  $("search-trouble").replaceChildren();
  const what = !image ? "highest score first"
    : by.value === "likeness" ? "most alike first" : "by the score of their captions for the image";
  $("search-status").textContent = found.hits.length
    ? `${count(found.hits.length)} of ${count(found.items)} items in ${seconds(found.seconds)}, ${columns.orderName() || what}`
    : "No item meets the condition.";
  if (found.fits === false) {
    $("search-trouble").replaceChildren(element("div", { className: "notice plain" }, element("b", {}, "Nothing fits."),
      element("span", {}, `Even the best result is a match with a probability of ${percent(found.hits[0].probability)}, `
        + `where chance gives ${percent(found.base_rate)}. The nearest are shown all the same.`)));
  }
  $("order-part").hidden = $("order").options.length < 2 || found.hits.length < 2;
  const old = list.childElementCount;
  list.replaceChildren(...columns.ordered([...found.hits]).map((hit) => element("li", {}, card(hit, found.form, text))));
  if (wanted > FEW && old < list.childElementCount) list.children[old]?.firstChild.focus({ preventScroll: true });
  $("more").hidden = found.hits.length < wanted || wanted >= MOST;
}

function card(hit, form, text) {
  const image = element("img", { alt: "", loading: "lazy", decoding: "async" });
  const thumb = element("span", { className: "thumb" }, image);
  const none = () => thumb.replaceChildren(element("span", { className: "none" }, "no image"));
  image.addEventListener("error", none);
  showImage(image, hit.row, 320).catch(none);
  const query = new URLSearchParams({ row: hit.row, text: text || (hit.caption ?? "") });
  const score = element("span", {}, `score ${fixed(hit.score, form)}`);
  if (hit.energy !== null) score.title = `Energy of the pair: ${energy(hit.energy, form)}`;
  const meta = hit.probability === null ? [score] : [element("b", {}, percent(hit.probability)), score];
  const link = element("a", { className: "card", href: `#/look?${query}` }, thumb,
    element("span", { className: "caption" }, hit.caption ?? hit.id),
    element("span", { className: "meta" }, ...meta));
  link.title = hit.caption ?? hit.id;
  if (hit.probability !== null) {
    link.append(bar(hit.probability, found.base_rate));
    meta[0].title = `Probability that the two belong together; the mark is its base rate, ${percent(found.base_rate)}`;
  }
  const told = columns.values(hit);
  if (told) link.append(told);
  return link;
}
