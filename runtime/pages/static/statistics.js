// What models were asked and said: a line a feature, and how the answers spread.
"use strict";
import { count, el, percent } from "./core.js";
import { folded, table } from "./sections.js";


/** A bar for a share of 0 to 1; the number stands beside it, so it is nothing to read aloud. */
const bar = (share) => el("meter", { min: 0, max: 1, value: share ?? 0, "aria-hidden": "true" });

export function drawPredictions(predictions) {
  if (!predictions.length) return null;
  // A gateway does not know which variants its devices run, so nor what those answer to the samples.
  const samples = predictions.some((p) => p.before !== null) ? [["of the samples", (p) => percent(p.before), "number"]] : [];
  return el("div", { class: "actions" }, el("h3", {}, "What it answers"), table([
    ["class", (p) => p.value, "word"], ["of the answers", (p) => el("span", {}, bar(p.share), ` ${percent(p.share)}`), "whole"], ...samples,
  ], predictions, "narrow"));
}

export function drawStatistics({ rows, left_out: leftOut }, key) {
  return folded(`statistics ${key}`, `Statistics of ${rows.length} inputs and outputs`, table([
    ["feature", (f) => f.feature, "word"], ["is", (f) => f.role, "word"], ["rows", (f) => count(f.count), "number"], ["missing", (f) => percent(f.missing), "number"],
    ["mean", (f) => f.mean, "number"], ["mean of the samples", (f) => f.before, "number"], ["10 %", (f) => f.p10, "number"], ["half", (f) => f.p50, "number"], ["90 %", (f) => f.p90, "number"], ["most frequent", (f) => f.top],
  ], rows), leftOut ? el("p", { class: "note" }, `${leftOut} more are in /edgeward/drift.`) : null);
}
