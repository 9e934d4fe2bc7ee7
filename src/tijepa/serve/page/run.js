// The view on the run: verdict, retrieval, what was trained, curves.

import { get } from "./api.js";
import { bar, complain, count, element, percent } from "./words.js";

const $ = (id) => document.getElementById(id);
const WAYS = [["image_to_text", "Image → text"], ["text_to_image", "Text → image"]];

export async function open() {
  const body = $("run-body");
  $("run-trouble").replaceChildren();
  try {
    show(body, await get("/run"));
  } catch (error) {
    complain($("run-trouble"), error, open);
  }
  body.removeAttribute("aria-busy");
}

function show(body, run) {
  $("run-title").textContent = run.name;
  body.replaceChildren(verdict(run));
  if (run.image_to_text || run.text_to_image) {
    const words = `Retrieval among ${count(run.images)} images and ${count(run.texts)} texts (${run.measured}). By chance the right one comes first in ${percent(run.chance)} of cases.`;
    body.append(element("p", { className: "about lead" }, words), tiles(run));
  } else body.append(element("p", { className: "about" }, "Nothing has been evaluated yet."));
  if (run.facts.length) body.append(facts(run.facts));
  body.append(element("h2", {}, "While it trained"), fragment(run.curves));
  body.append(element("h2", {}, "Collapse guard"), fragment(run.history));
  if (run.problems.length) {
    body.append(element("h2", {}, "Missing from the record"),
      element("ul", { className: "note" }, ...run.problems.map((one) => element("li", {}, one))));
  }
}

function verdict(run) {
  const reason = run.reason ?? "collapse has not been measured yet";
  return element("p", { className: `verdict ${run.verdict ?? ""}` },
    element("b", {}, run.sign), element("span", {}, `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`));
}

function tiles(run) {
  return element("div", { className: "tiles" }, ...WAYS.filter(([key]) => run[key]).map(([key, title]) => {
    const found = run[key], first = found.recall_at_1 ?? 0;
    const times = run.chance ? `, ${Math.round(first / run.chance)} × chance` : "";
    return element("div", { className: "tile" },
      element("h3", {}, title),
      element("p", { className: "big" }, percent(first), " ", element("small", {}, `recall at 1${times}`)),
      bar(first),
      element("dl", {}, ...[["at 5", share(found.recall_at_5)], ["at 10", share(found.recall_at_10)],
        ["median rank", String(found.median_rank ?? "–")]].map(pair)));
  }));
}

function share(value) {
  return value === null ? "–" : percent(value);
}

function facts(listed) {
  return element("dl", { className: "facts" }, ...listed.map(pair));
}

function pair([term, value]) {
  return element("div", {}, element("dt", {}, term), element("dd", {}, value));
}

/** HTML that the server made and escaped: figures and tables, no script (the page runs none). */
function fragment(html) {
  const made = document.createElement("div");
  made.innerHTML = html;
  return made;
}
