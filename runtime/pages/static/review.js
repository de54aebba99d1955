// The page on which people answer: one item at a time with its input, the answers as buttons and keys.
"use strict";
import { askForKey, byId, clock, dialog, el, keep, recall, request, session, setUpTheme, short, show, tell } from "./core.js";
import { pill } from "./sections.js";

const NAME = "edgeward.reviewer";
const LIMIT = 20, EVERY_MS = 2000;
const WHY = {
  level: "People decide everything here.",
  low_confidence: "The model is not sure enough to answer by itself.",
  audit: "Drawn by chance, to see whether the model is right.",
};

let me = recall(session, NAME) ?? "";
let told = null;
let current = null;  // the item's id: others come and go around it
let isAsking = false, isSending = false;
const inputs = new Map();  // by item: what its input looks like, or why that is not known
const picked = new Map();  // by item of several rows: the answers so far

setUpTheme();
byId("who").addEventListener("click", () => identify().catch(() => {}));

const items = () => told?.items ?? [];
const at = () => Math.max(0, items().findIndex((item) => item.id === current));
const item = () => items()[at()];

// ---------------------------------------------------------------- who answers

/** Asks for the reviewer's key where people have their own, else for a name; once a tab. */
async function identify() {
  if (isAsking) return;
  isAsking = true;
  try {
    if (told?.has_reviewers) {
      await askForKey("Reviewers of this gateway have keys of their own.");
    } else {
      await dialog("Who answers?", [el("p", {}, el("label", { for: "name" }, "Your name. Two people are asked where it matters how well people agree."),
        el("input", { id: "name", autocomplete: "name", maxlength: "128", required: true, value: me }))], "Go on",
      () => keep(session, NAME, (me = byId("name").value.trim())));
    }
  } finally { isAsking = false; }
  await load();
}

const isKnown = () => (told?.has_reviewers ? Boolean(told.reviewer) : Boolean(me));

// ---------------------------------------------------------------- what is asked and told

async function load() {
  try {
    const query = new URLSearchParams({ limit: String(LIMIT), ...(told?.has_reviewers ? {} : { reviewer: me }) });
    told = await (await request(`admin/reviews?${query}`)).json();
    for (const kept of [inputs, picked]) for (const id of kept.keys()) if (!items().some((one) => one.id === id)) kept.delete(id);
    current = item()?.id ?? null;
    draw();
    if (current && isKnown() && !inputs.has(current)) await look(current);
  } catch (error) {
    byId("waiting").className = "pill bad";
    byId("waiting").textContent = error.message === "cancelled" ? "no key" : "not connected";
  }
}

async function look(id) {
  inputs.set(id, null);
  try {
    inputs.set(id, (await (await request(`admin/reviews/${encodeURIComponent(id)}/input`)).json()).tensors);
  } catch { inputs.delete(id); }
  draw();
}

async function answer(one, given) {
  if (isSending) return;
  isSending = true;
  try {
    const body = told.has_reviewers ? { answer: given } : { answer: given, reviewer: me };
    await request(`admin/reviews/${encodeURIComponent(one.id)}/answer`, { method: "POST", body, needsKey: true });
    tell(`Answered: ${named(given, one.labels)}`, "good");
    const next = items()[at() + 1] ?? items()[at() - 1];
    told.items = items().filter((other) => other.id !== one.id);
    told.waiting -= 1;
    current = next?.id ?? null;
  } catch (error) {
    picked.delete(one.id);
    if (error.message !== "cancelled") tell(error.message, "bad");
  } finally { isSending = false; }
  await load();
}

/** One answer, of the row that is next; the last row sends them all. */
function pick(one, given) {
  if (one.rows === 1) return answer(one, given);
  const answers = [...(picked.get(one.id) ?? []), given];
  picked.set(one.id, answers);
  draw();
  return answers.length === one.rows ? answer(one, answers) : undefined;
}

// ---------------------------------------------------------------- what is shown

const named = (given, labels) => (Array.isArray(given) ? given.map((one) => named(one, labels)).join(", ") : String(labels[given] ?? given));

/** Classes that are digits are their own keys; of others the first nine have 1 to 9. */
function keysOf(labels) {
  const isDigits = labels.every((label) => /^[0-9]$/.test(label)) && new Set(labels).size === labels.length;
  return labels.map((label, number) => (isDigits ? label : number < 9 ? String(number + 1) : null));
}

function tensor(one, row, rows) {
  const title = el("h3", {}, `${one.name} `, el("span", { class: "note" }, `${one.datatype} [${one.shape.join(", ")}]`));
  if (one.images) {
    return [title, el("div", { class: "row" }, one.images.map((source, number) => el("img", {
      class: "exhibit", src: source, alt: rows > 1 ? `row ${number + 1} of ${one.name}` : one.name, "aria-current": rows > 1 && number === row ? "true" : null,
    })))];
  }
  const cell = (value) => (typeof value === "number" ? short(value) : String(value));
  const columns = one.table[0]?.length ?? 0;
  return [title, el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": one.name }, el("table", { class: "exhibit" },
    columns > 1 ? el("thead", {}, el("tr", {}, rows > 1 ? el("th", { scope: "col" }, "row") : null, one.table[0].map((_, number) => el("th", { scope: "col", class: "number" }, String(number))))) : null,
    el("tbody", {}, one.table.map((values, number) => el("tr", { "aria-current": rows > 1 && number === row ? "true" : null },
      rows > 1 ? el("th", { scope: "row" }, String(number + 1)) : null, values.map((value) => el("td", { class: "number" }, cell(value)))))))) ];
}

function shownInput(one, row) {
  const tensors = inputs.get(one.id);
  return [
    one.input_reference ? el("p", {}, "The input: ", /^https?:/.test(one.input_reference) ? el("a", { href: one.input_reference, rel: "noreferrer", target: "_blank" }, one.input_reference) : el("code", {}, one.input_reference)) : null,
    tensors === undefined || tensors === null ? el("p", { class: "empty" }, "Waiting …") : tensors.length ? tensors.map((each) => tensor(each, row, one.rows)) : el("pre", {}, one.summary),
  ];
}

/** For items that come without a choice of answers. */
function answerForm(one) {
  const field = el("input", { "aria-label": "Answer", required: true, placeholder: "a class or a number", "data-focus": `${one.id} field` });
  const send = (event) => {
    event.preventDefault();
    let given = field.value.trim();
    try { given = JSON.parse(given); } catch { /* the name of a class */ }
    field.blur();
    pick(one, given);
  };
  return el("form", { class: "row actions", onsubmit: send }, field, el("button", { class: "main" }, "Answer"));
}

function draw() {
  byId("waiting").className = "pill";
  byId("waiting").textContent = `${told.waiting} waiting`;
  byId("who").classList.toggle("hidden", !isKnown());
  byId("who").textContent = told.reviewer ?? me;
  byId("who").setAttribute("aria-label", `You are ${told.reviewer ?? me}; somebody else answers`);
  if (!isKnown()) {
    show(byId("item"), el("div", { class: "card" }, el("p", {}, told.has_reviewers ? "Reviewers of this gateway have keys of their own." : "Whoever answers says who they are."),
      el("div", { class: "row" }, el("button", { class: "main", type: "button", onclick: () => identify().catch(() => {}) }, told.has_reviewers ? "Use my key" : "Say who I am"))));
    return;
  }
  const one = item();
  if (!one) { show(byId("item"), el("p", { class: "empty" }, "Nothing is waiting for you.")); return; }
  const row = picked.get(one.id)?.length ?? 0, keys = keysOf(one.labels);
  const suggested = one.suggestion === null ? null : one.rows > 1 ? one.suggestion[row] : one.suggestion;
  show(byId("item"), el("article", { class: "card item", "data-item": one.id },
    el("h3", {}, one.model, " ", el("span", { class: "note" }, `${one.id}, ${clock(one.at)}${one.segment ? `, ${one.segment}` : ""}`)),
    el("p", { class: "note" }, WHY[one.why] ?? one.why, one.wants > 1 ? ` ${one.wants} people are asked.` : ""),
    suggested === null ? null : el("p", {}, "The model suggests ", el("strong", {}, named(suggested, one.labels)), one.confidence === null ? "" : ` (confidence ${short(one.confidence)})`),
    shownInput(one, row),
    one.rows > 1 ? el("p", { role: "status" }, row < one.rows ? `Row ${row + 1} of ${one.rows}` : "Sending …", row ? `; so far ${named(picked.get(one.id), one.labels)}` : "") : null,
    one.labels.length ? el("div", { class: "row actions answers" }, one.labels.map((label, number) => el("button", {
      type: "button", "data-focus": `${one.id} ${number}`, onclick: () => pick(one, number),
    }, keys[number] === null ? null : el("kbd", {}, keys[number]), " ", label, number === suggested ? [" ", pill("suggested")] : null))) : answerForm(one),
    el("div", { class: "row actions" },
      el("button", { type: "button", disabled: at() === 0, "data-focus": "back", onclick: () => step(-1) }, el("kbd", {}, "k"), " Back"),
      el("button", { type: "button", disabled: at() >= items().length - 1, "data-focus": "next", onclick: () => step(1) }, el("kbd", {}, "j"), " Next"),
      row ? el("button", { type: "button", "data-focus": "undo", onclick: () => { picked.delete(one.id); draw(); } }, "Begin this one anew") : null,
      el("span", { class: "note" }, `${at() + 1} of ${items().length}${told.waiting > items().length ? ` shown, ${told.waiting} in all` : ""}`))));
}

function step(by) {
  const next = items()[at() + by];
  if (!next) return;
  current = next.id;
  draw();
  if (!inputs.has(current)) look(current);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest?.("input, select, textarea, dialog")) return;
  const one = item();
  if (!one || !isKnown()) return;
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  const number = keysOf(one.labels).indexOf(event.key);
  if (number >= 0) pick(one, number);
});

await load();
if (told && !isKnown()) identify().catch(() => {});
setInterval(() => { if (!document.hidden && !isAsking && !isSending) load(); }, EVERY_MS);
