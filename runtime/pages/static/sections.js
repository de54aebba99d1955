// How sections of documents are shown: what is known by name, and whatever else there is as a plain list.
"use strict";
import { el, short, show } from "./core.js";

/** Fills `place` with `draw(data)`, or says that the part is not set up or what it failed with. */
export function section(place, state, draw) {
  if (!state.is_set_up) show(place, el("p", { class: "empty" }, "Not set up."));
  else if ("error" in state) show(place, el("p", { class: "bad" }, state.error));
  else show(place, draw(state.data));
}

export function table(columns, rows) {
  return el("div", { class: "scroll" }, el("table", { class: "stack" },
    el("thead", {}, el("tr", {}, columns.map(([title, , kind]) => el("th", { class: kind ?? null, scope: "col" }, title)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map(([title, read, kind]) => el("td", { class: kind ?? null, "data-label": title }, cell(read(row)))))))));
}

const cell = (value) => (value === null || value === undefined || value === "" ? "–" : typeof value === "number" ? short(value) : typeof value === "object" && !(value instanceof Node) ? plain(value) : value);

/** Names and values of what has no display of its own. */
export function facts(pairs) {
  return el("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [el("dt", {}, name), el("dd", {}, cell(value))]));
}

/** Any document: lists as lists, objects as names and values. */
export function plain(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.length ? (value.every((one) => typeof one !== "object") ? value.join(", ") : el("div", {}, value.map((one) => el("div", { class: "card" }, plain(one))))) : "none";
  if (typeof value === "object") return facts(Object.entries(value).map(([name, one]) => [name.replaceAll("_", " "), typeof one === "boolean" ? (one ? "yes" : "no") : typeof one === "object" ? plain(one) : one]));
  return typeof value === "number" ? short(value) : String(value);
}

/** What is left of `data` when `known` names are shown already. */
export function rest(data, known) {
  return facts(Object.entries(data).filter(([name]) => !known.includes(name)).map(([name, value]) => [name.replaceAll("_", " "), typeof value === "object" ? plain(value) : String(value)]));
}

const opened = new Set();
/** What few want to see: folded until somebody opens it, and as they left it when it is drawn again. */
export function folded(key, summary, ...content) {
  const note = ({ target }) => { if (target.open) opened.add(key); else opened.delete(key); };
  return el("details", { open: opened.has(key), ontoggle: note }, el("summary", { "data-focus": `folded ${key}` }, summary), ...content);
}

export const pill = (text, kind = "") => el("span", { class: `pill ${kind}` }, text);

export function models(list) {
  if (!list.length) return el("p", { class: "empty" }, "No model is loaded.");
  return table([
    ["model", (m) => el("strong", {}, m.name)], ["version", (m) => String(m.version), "word"], ["runs on", (m) => m.backend],
    ["a row", (m) => (m.row_ms ? `${short(m.row_ms)} ms` : "not measured"), "number"],
    ["why", (m) => [m.why, ...(m.fallbacks ?? []), ...(m.warnings ?? [])].filter(Boolean).join("; ")],
    ["watched", (m) => watched(m.watch ?? {})],
  ], list);
}

/** What the watch of a model found and did, in a line. */
function watched(found) {
  const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
  const checks = found.shadow_checks ? `${count(found.shadow_checks, "answer", "answers")} checked, ${found.disagreements} disagreed` : found.shadow;
  const again = found.recalibrations ? `measured again ${count(found.recalibrations, "time", "times")}` : "";
  const switches = found.switches ? `${count(found.switches, "switch", "switches")}${found.last_reason ? `: ${found.last_reason}` : ""}` : "";
  return [checks, again, switches].filter(Boolean).join("; ") || "nothing to tell";
}
