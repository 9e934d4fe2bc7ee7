// The store's columns: what stands under each result, what is chosen from, and the order.

import { element } from "./words.js";

const $ = (id) => document.getElementById(id);
const where = $("where"), order = $("order");
const OWN = ["split", "width", "height", "format", "reference"]; // the server tells these of a hit too

let columns = [];
let picked = new Set(); // names of those shown under each result

/** Make the controls; `filter` is called where a condition changed, `redraw` where only the look did. */
export function start(served, filter, redraw) {
  columns = served;
  const told = columns.filter((one) => OWN.includes(one.name) || !["id", "captions", "content_hash"].includes(one.name));
  $("shown-columns").replaceChildren(...told.map((one) => element("li", {}, element("button", {
    type: "button", "aria-pressed": "false",
    onclick: () => {
      picked.delete(one.name) || picked.add(one.name);
      mark();
      redraw();
    },
  }, one.name))));
  $("facets").replaceChildren(...columns.filter((one) => one.values?.length > 1).map((one) => {
    const choice = element("select", { onchange: () => choose(one, choice.value, filter) },
      element("option", { value: "" }, "any"),
      ...one.values.map((value) => element("option", { value: literal(value) }, String(value))));
    choice.dataset.column = one.name;
    return element("label", {}, one.name, choice);
  }));
  const sortable = columns.filter((one) => one.kind === "integer" || one.kind === "number");
  order.replaceChildren(element("option", { value: "" }, "best first"), ...sortable.flatMap((one) => [
    element("option", { value: `+${one.name}` }, `${one.name}, low to high`),
    element("option", { value: `-${one.name}` }, `${one.name}, high to low`),
  ]));
  order.addEventListener("change", redraw);
  where.addEventListener("input", () => complete());
  where.addEventListener("focus", () => complete());
}

/** Take over what the address says: a condition, and columns to show. */
export function open(query) {
  where.value = query.get("where") ?? where.value;
  if (query.has("columns")) picked = new Set(query.get("columns").split(","));
  mark();
  $("filter").open ||= where.value !== "" || picked.size > 0;
}

/** Names to keep in the address. */
export function names() {
  return [...picked].join(",");
}

/** The hits in the order that is chosen; what lacks the value comes last. */
export function ordered(hits) {
  const name = order.value.slice(1), sign = order.value.startsWith("-") ? -1 : 1;
  if (!name) return hits;
  const known = hits.filter((hit) => typeof hit.columns[name] === "number");
  const others = hits.filter((hit) => typeof hit.columns[name] !== "number");
  return [...known.sort((a, b) => sign * (a.columns[name] - b.columns[name])), ...others];
}

/** The order in words, empty where it is that of the search. */
export function orderName() {
  return order.value && order.selectedOptions[0].textContent;
}

/** A list of what the chosen columns say of a hit; null where none is chosen. */
export function values(hit) {
  if (!picked.size) return null;
  const parts = [...picked].map((name) => element("div", {}, element("dt", {}, name),
    element("dd", {}, inWords(hit.columns[name]))));
  return element("dl", { className: "values" }, ...parts);
}

function inWords(value) {
  if (value === undefined || value === null) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function literal(value) {
  return typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value);
}

/** Put the choice into the condition, in the place of another one of the same column. */
function choose(column, value, filter) {
  const own = column.values.map((one) => clause(column, literal(one)));
  let parts = where.value.trim().split(/\s+AND\s+/i).filter((part) => part && !own.includes(part));
  const rest = parts.join(" AND ");
  if (value && /\bOR\b/i.test(rest) && !/^\(.*\)$/.test(rest)) parts = [`(${rest})`];
  if (value) parts.push(clause(column, value));
  where.value = parts.join(" AND ");
  filter();
}

function clause(column, value) {
  return `${column.written} = ${value}`;
}

/** Say in the controls what the condition and the choice of columns are. */
export function mark() {
  const parts = where.value.split(/\s+AND\s+/i).map((part) => part.trim());
  for (const choice of $("facets").querySelectorAll("select")) {
    const column = columns.find((one) => one.name === choice.dataset.column);
    const found = column.values.map(literal).find((value) => parts.includes(clause(column, value)));
    choice.value = found ?? "";
  }
  for (const button of $("shown-columns").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(picked.has(button.textContent)));
  }
}

/** Offer the names of columns for the word that is being typed. */
function complete() {
  const [, before, word] = where.value.match(/^(.*?)([`\w]*)$/su);
  const fits = columns.filter((one) => one.written.toLowerCase().startsWith(word.toLowerCase()));
  $("where-names").replaceChildren(...fits.map((one) => element("option", { value: `${before}${one.written} ` })));
}
