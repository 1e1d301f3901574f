"use strict";
// The endpoints as openapi.json describes them, without a program from elsewhere.

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

function typeOf(schema, all) {
  if (schema.$ref) return typeOf(all[schema.$ref.split("/").pop()] || {}, all);
  if (schema.anyOf) return schema.anyOf.map((own) => typeOf(own, all)).join(" | ");
  if (schema.type === "array") return `[${typeOf(schema.items || {}, all)}]`;
  return schema.type || "value";
}

function fields(schema, all) {
  const list = make("dl", undefined, "fields");
  for (const [name, own] of Object.entries(schema.properties || {})) {
    const needed = (schema.required || []).includes(name) ? "" : `, ${JSON.stringify(own.default ?? null)} if left out`;
    list.append(make("dt", `${name}: ${typeOf(own, all)}${needed}`), make("dd", own.description || ""));
  }
  return list;
}

async function begin() {
  const api = await (await fetch("openapi.json")).json();
  const all = (api.components || {}).schemas || {};
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      const part = make("section", undefined, "endpoint");
      part.append(make("h2", `${method.toUpperCase()} ${path}`), make("p", about.description || about.summary || ""));
      for (const own of about.parameters || []) {
        part.append(make("p", `?${own.name}: ${typeOf(own.schema, all)}`, "soft"));
      }
      const body = ((about.requestBody || {}).content || {})["application/json"];
      if (body) {
        const schema = body.schema.$ref ? all[body.schema.$ref.split("/").pop()] : body.schema;
        if (schema.description) part.append(make("p", schema.description));
        part.append(fields(schema, all));
      }
      document.getElementById("endpoints").append(part);
    }
  }
}

begin();
