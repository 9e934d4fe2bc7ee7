// The endpoints as /openapi.json describes them, each with a call to copy.

import { complain, element } from "./words.js";

const $ = (id) => document.getElementById(id);
const EXAMPLES = {
  image: "photo.jpg", text: "a red circle", row: "3", k: "5", grid: "8", side: "320",
  form: "cosine", where: "split = 'test'",
};

async function begin() {
  try {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`The server answered ${response.status}.`);
    draw(await response.json());
  } catch (error) {
    complain($("trouble"), error, () => location.reload());
  }
  $("endpoints").removeAttribute("aria-busy");
}

function draw(document_) {
  $("serving").textContent = `version ${document_.info.version}`;
  const schemas = document_.components.schemas;
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), endpoint(method, path, operation, schemas)]);
    }
  }
  const titles = { model: "Model", search: "Search", server: "Server" };
  $("endpoints").replaceChildren(...[...groups].flatMap(([tag, list]) =>
    [element("h2", {}, titles[tag] ?? tag), ...list]));
}

function endpoint(method, path, operation, schemas) {
  const fields = [
    ...(operation.parameters ?? []).map((one) => ({ ...one, schema: { ...one.schema, description: one.description } })),
    ...bodyFields(operation, schemas),
  ];
  const inside = element("div", { className: "inside" },
    element("p", { className: "words" }, operation.description ?? ""));
  if (fields.length) {
    inside.append(element("h3", {}, "Takes"), list(fields.map((one) =>
      [one.name, one.schema, one.required ? "required" : "optional"])));
  }
  const answer = operation.responses["200"]?.content ?? {};
  const model = resolve(answer["application/json"]?.schema, schemas);
  if (model?.properties) {
    inside.append(element("h3", {}, "Answers"), list(Object.entries(model.properties).map(([name, schema]) => [name, schema, ""])));
  }
  const refusals = Object.entries(operation.responses).filter(([status]) => status >= 400);
  inside.append(element("h3", {}, "Refuses"),
    list(refusals.map(([status, one]) => [status, { description: one.description }, ""])));
  inside.append(element("h3", {}, "For example"), element("pre", { tabIndex: 0 }, call(method, path, fields)));
  return element("details", { className: "endpoint" },
    element("summary", {}, element("b", {}, method.toUpperCase()), element("code", {}, path),
      element("span", {}, operation.summary ?? "")),
    inside);
}

function bodyFields(operation, schemas) {
  const content = operation.requestBody?.content ?? {};
  const schema = resolve(Object.values(content)[0]?.schema, schemas);
  return Object.entries(schema?.properties ?? {}).map(([name, one]) =>
    ({ name, schema: one, in: "form", required: (schema.required ?? []).includes(name) }));
}

function resolve(schema, schemas) {
  return schema?.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema;
}

function list(entries) {
  return element("dl", { className: "fields" }, ...entries.flatMap(([name, schema, need]) => [
    element("dt", {}, element("code", {}, name), element("small", {}, [kind(schema), need].filter(Boolean).join(", "))),
    element("dd", {}, schema.description ?? ""),
  ]));
}

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items ?? {}) || "values"}`;
  if (schema.format === "binary" || schema.contentMediaType) return "file";
  return schema.type ?? "";
}

function call(method, path, fields) {
  const at = path.replace(/\{(\w+)\}/g, (_, name) => EXAMPLES[name] ?? name);
  const query = fields.filter((one) => one.in === "query" && (one.required || one.name === "k"));
  const form = fields.filter((one) => one.in === "form");
  const sent = form.filter((one) => one.required || one.name === "image");
  const given = query.map((one) => `  --data-urlencode "${one.name}=${EXAMPLES[one.name] ?? "…"}"`);
  const parts = sent.map((one) =>
    `  -F ${one.name}=${one.name === "image" ? "@" : ""}"${EXAMPLES[one.name] ?? "…"}"`);
  const start = `curl ${method === "get" && given.length ? "-G " : ""}${location.origin}${at}`;
  return [start, ...given, ...parts].join(" \\\n");
}

begin();
