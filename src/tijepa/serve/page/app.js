// Which view the address names, and what belongs to all of them: images that come in, keys.

import { get } from "./api.js";
import * as look from "./look.js";
import * as run from "./run.js";
import * as search from "./search.js";
import { complain } from "./words.js";

const $ = (id) => document.getElementById(id);
const TITLES = { search: "Search", look: "Look", run: "Run" };

let about = null;
let view = null;
let results = null; // the address of the last search, to go back to

function route() {
  const [, name, words] = location.hash.match(/^#\/(\w*)(?:\?(.*))?$/) ?? [];
  const asked = name in TITLES ? name : "search";
  const query = new URLSearchParams(words ?? "");
  const changed = asked !== view;
  view = asked;
  for (const one of Object.keys(TITLES)) $(one).hidden = one !== view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[view]} | ${about.run} | tijepa`;
  if (changed) window.scrollTo(0, kept[view] ?? 0);
  if (view === "search") search.open(query);
  if (view === "look") look.open(query, results);
  if (view === "run") run.open();
}

const kept = {}; // how far each view was scrolled
window.addEventListener("scroll", () => {
  if (view === "search") kept.search = window.scrollY;
}, { passive: true });

window.addEventListener("hashchange", (event) => {
  const before = new URL(event.oldURL).hash;
  if (/^#\/(\?|$)/.test(before) && before.length > 2) results = before;
  route();
});
window.addEventListener("popstate", () => {
  if (about && view === "look") route();
});

/** An image was dropped, pasted or chosen: search with it, or look into it. */
function receive(file) {
  if (view === "look" || about.items === null) {
    if (view !== "look") location.hash = "#/look";
    look.lookAt(file);
  } else searchBy(file);
}

function searchBy(file) {
  if (view !== "search") {
    history.pushState(null, "", "#/?image=");
    results = null;
    route();
  }
  search.searchImage(file);
}

function imageOf(transfer) {
  return [...(transfer?.files ?? [])].find((one) => one.type.startsWith("image/") || one.type === "") ?? null;
}

let inside = 0; // elements that a dragged image is over
document.addEventListener("dragenter", (event) => {
  if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
  inside += 1;
  $("dropping").hidden = false;
});
document.addEventListener("dragleave", () => {
  inside = Math.max(0, inside - 1);
  $("dropping").hidden = inside === 0;
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("dropping").hidden = true;
  const file = imageOf(event.dataTransfer);
  if (file && about) receive(file);
});
document.addEventListener("paste", (event) => {
  const file = imageOf(event.clipboardData);
  if (!file || !about) return;
  event.preventDefault();
  receive(file);
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (view === "look") return $("look-words").focus();
  if (view !== "search") location.hash = "#/";
  search.focus();
});

const choose = () => $("file").click();
$("choose").addEventListener("click", choose);
$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) receive(file);
});

async function begin() {
  try {
    about = await get("/about");
  } catch (error) {
    $("search").hidden = false;
    $("ask").hidden = true;
    complain($("search-trouble"), error, () => location.reload());
    return;
  }
  $("serving").textContent = about.store ? `${about.run} on ${about.store}` : about.run;
  search.start(about);
  look.start(about, choose, searchBy);
  if (about.items === null && !location.hash) history.replaceState(null, "", "#/look");
  route();
  if (view === "search" && matchMedia("(hover: hover)").matches) search.focus();
}

begin();
