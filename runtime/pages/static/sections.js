// How sections of documents are shown: tables, names with values, and what is folded.
"use strict";
import { el, short, show } from "./core.js";

/** Fills `place` with `draw(data)`, or says that the part is not set up or what it failed with. */
export function section(place, state, draw) {
  if (!state.is_set_up) show(place, el("p", { class: "empty" }, "Not set up."));
  else if ("error" in state) show(place, el("p", { class: "bad" }, state.error));
  else show(place, draw(state.data));
}

/** `kind`: "stack": on a phone a row is a list of what it has; "narrow": no wider than its words, everywhere. */
export function table(columns, rows, kind = "stack") {
  return el("div", { class: "scroll" }, el("table", { class: kind },
    el("thead", {}, el("tr", {}, columns.map(([title, , kind]) => el("th", { class: kind ?? null, scope: "col" }, title)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map(([title, read, kind]) => {
      const shown = cell(read(row));
      return el("td", { class: [kind, shown === NOTHING ? "none" : null].filter(Boolean).join(" ") || null, "data-label": title }, shown);
    }))))));
}

const NOTHING = "–";
const cell = (value) => (value === null || value === undefined || value === "" ? NOTHING : typeof value === "number" ? short(value) : value);

/** Names and values. */
export function facts(pairs) {
  return el("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [el("dt", {}, name), el("dd", {}, cell(value))]));
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
  return [checks, again, switches].filter(Boolean).join("; ");
}
