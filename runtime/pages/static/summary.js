// The lines at the top of a page: each question's answer in a word, why, and the way to what lies behind it.
"use strict";
import { byId, inUnits, short } from "./core.js";
import { largest, total, value } from "./charts.js";

/** By question: what of its answer makes the program less than healthy. */
const concerns = new Map();

/** Only the word is read aloud when it changes: numbers change every second. */
function say(name, [kind, word, text]) {
  const [answer, why] = byId(`answer-${name}`).children;
  answer.className = kind;
  if (answer.textContent !== word) answer.textContent = word;
  if (why.textContent !== text) why.textContent = text;
}

const question = (name) => document.querySelector(`#summary a[href="#${name}"]`).textContent;

/** Answers from a section: `read(data)` gives [kind, word, text, concern if there is one]. */
export function answer(name, state, read) {
  const told = !state.is_set_up ? ["", "Not set up.", ""] : "error" in state ? ["warn", "Not known.", state.error, `“${question(name)}” has no answer`] : read(state.data);
  say(name, told);
  concerns.set(name, told[3]);
}

/** Of the newest numbers, `troubles` that the page knows, and what the other lines found. */
export function sayHealth(troubles = []) {
  const rate = total("edgeward_inferences_total"), errors = total("edgeward_errors_total"), p95 = largest("edgeward_request_duration_seconds", "p95");
  const bad = [...troubles], odd = [...concerns.values()].filter(Boolean);
  if (errors > 0 && errors >= 0.01 * (rate + errors)) bad.unshift(`${short((100 * errors) / (rate + errors))} % of requests end in an error`);
  if (value("edgeward_ready") === 0) bad.unshift("it takes no new requests");
  const found = [...bad, ...odd].join("; ");
  const numbers = [`${short(rate)} requests/s`, Number.isFinite(p95) ? `95 % within ${inUnits("x_seconds p95", p95)}` : null, errors ? `${short(errors)} errors/s` : "no errors"].filter(Boolean).join(", ");
  say("health", [bad.length ? "bad" : odd.length ? "warn" : "good", bad.length ? "Look:" : odd.length ? "It runs, but look:" : "Yes.", `${found && `${found}. `}Now: ${numbers}.`]);
}

/** What was heard last is no answer to how it is now. */
export function sayLink(isUp) {
  if (!isUp) say("health", ["warn", "Not known.", "This page is not connected; the answers below are the last that it heard."]);
}
