// "Is the input still the same?": verdicts per model and the findings behind them.
"use strict";
import { clock, el, sentence } from "./core.js";
import { drawErrors, drawFigures } from "./errors.js";
import { folded, pill, table } from "./sections.js";
import { drawPredictions, drawStatistics } from "./statistics.js";

const KINDS = { none: "good", "not known": "warn", unseen: "", learning: "", drift: "bad", worse: "bad" };
const WORDS = { none: "no change", "not known": "not known of every device", unseen: "nothing seen yet" };
const ANSWERS = { none: "Yes.", "not known": "As far as may be known." };
const SEEN_BY = { devices: " rows of devices", labels: " by labels" };

// Where one feature drifts its neighbours often do too: the first say what happened.
const SHOWN = 3;

const findingsTable = (findings) => table([
  ["feature", (f) => f.feature, "word"], ["what happened", (f) => (f.detail ? `${f.kind} (${f.detail})` : f.kind)], ["what to do next", (f) => f.next], ["since", (f) => (f.since ? clock(f.since) : null), "whole"],
], findings);
const sizesTable = (findings) => table([["feature", (f) => f.feature, "word"], ["size", (f) => f.size], ["example", (f) => f.example]], findings);

const isBad = (one) => KINDS[one.verdict] === "bad";
const nameOf = (one) => `${one.model} ${one.version}${SEEN_BY[one.seen_by] ?? ""}`;

/** For the line at the top: [kind, word, text, concern]. */
export function inputAnswer({ models }) {
  const changed = models.filter(isBad), seen = changed.find((one) => one.verdict === "drift") ?? changed[0] ?? models.find((one) => one.verdict === "not known") ?? models.find((one) => one.verdict === "none") ?? models[0];
  if (!seen) return ["", "Not known yet.", "No model has been watched yet."];
  const text = `${nameOf(seen)}: ${seen.reason}`;
  if (!changed.length) return [KINDS[seen.verdict] ?? "", ANSWERS[seen.verdict] ?? "Not known yet.", sentence(text)];
  const isInput = seen.verdict === "drift", [first, ...others] = seen.findings ?? [];
  const what = first ? `${nameOf(seen)}${first.since ? `, since ${clock(first.since)}` : ""}: ${first.feature}: ${first.kind}${others.length ? `; ${others.length} more ${others.length === 1 ? "feature" : "features"} changed` : ""}. Next: ${first.next}` : text;
  return ["bad", isInput ? "No." : "Its answers got worse.", sentence(what), isInput ? `the input of ${nameOf(seen)} has changed` : `${nameOf(seen)} got worse`];
}

/** `data.models`: [{model, version, seen_by, verdict, reason, findings: [{feature, kind, detail, since, next, size, example}], estimate, statistics, errors}], `data.figures`. */
export function drawDrift(data) {
  const figures = drawFigures(data.figures ?? []);
  if (!data.models.length) return [el("p", { class: "empty" }, "No model has been watched yet."), figures];
  // What changed comes first.
  return [...[...data.models].sort((a, b) => isBad(b) - isBad(a)).map((one) => {
    const findings = one.findings ?? [], key = nameOf(one);
    return el("article", { class: "card" },
      el("h3", {}, `${one.model} ${one.version} `, pill(WORDS[one.verdict] ?? one.verdict, KINDS[one.verdict] ?? "warn"), SEEN_BY[one.seen_by] ?? null),
      one.reason ? el("p", {}, sentence(one.reason)) : null,
      findings.length ? findingsTable(findings.slice(0, SHOWN)) : null,
      findings.length > SHOWN ? folded(`drift ${key}`, `${findings.length - SHOWN} more`, findingsTable(findings.slice(SHOWN))) : null,
      findings.length ? folded(`sizes ${key}`, "How large the changes are", sizesTable(findings)) : null,
      one.estimate ? folded(`estimate ${key}`, one.estimate.said, el("p", { class: "note" }, sentence(one.estimate.assumes))) : null,
      one.errors ? drawErrors(one.errors, key) : null,
      one.statistics ? [drawPredictions(one.statistics.predictions ?? []), drawStatistics(one.statistics, key)] : null);
  }), figures];
}
