// "Is the input still the same?": verdicts per model and the findings behind them.
"use strict";
import { clock, el } from "./core.js";
import { drawErrors, drawFigures } from "./errors.js";
import { folded, pill, plain, rest, table } from "./sections.js";
import { drawPredictions, drawStatistics } from "./statistics.js";

const KINDS = { none: "good", unseen: "", same: "good", stable: "good", ok: "good", drift: "bad", drifted: "bad", worse: "bad" };
const WORDS = { none: "no change", unseen: "nothing seen yet" };
const SEEN_BY = { devices: " rows of devices", labels: " by labels" };

// Where one feature drifts its neighbours often do too: the first say what happened.
const SHOWN = 5;

const findingsTable = (findings) => table([
  ["feature", (f) => f.feature ?? f.name, "word"], ["size", (f) => f.size, "word"], ["kind", (f) => f.kind?.replaceAll?.("_", " ") ?? f.kind],
  ["since", (f) => (f.since ? clock(f.since) : null), "word"], ["example", (f) => f.example ?? f.examples], ["what to do next", (f) => f.next ?? f.next_step],
], findings);

/** `data.models`: [{model, version, seen_by, verdict, reason, findings: [{feature, size, since, kind, example, next}], statistics, errors}], `data.figures`. */
export function drawDrift(data) {
  if (!Array.isArray(data.models)) return el("div", { class: "card" }, plain(data));
  const figures = drawFigures(data.figures ?? []);
  if (!data.models.length) return [el("p", { class: "empty" }, "No model has been watched yet."), figures];
  return [...data.models.map((one) => {
    const findings = Array.isArray(one.findings) ? one.findings : [];
    const key = `${one.model} ${one.version} ${one.seen_by}`;
    const verdict = String(one.verdict ?? (findings.length ? "drift" : "none"));
    return el("article", { class: "card" },
      el("h3", {}, `${one.model ?? one.name ?? ""} ${one.version ?? ""} `, pill(WORDS[verdict] ?? verdict.replaceAll("_", " "), KINDS[verdict] ?? "warn"), SEEN_BY[one.seen_by] ?? null),
      one.reason ? el("p", {}, one.reason) : null,
      findings.length ? findingsTable(findings.slice(0, SHOWN)) : null,
      findings.length > SHOWN ? folded(`drift ${key}`, `${findings.length - SHOWN} more`, findingsTable(findings.slice(SHOWN))) : null,
      one.errors ? drawErrors(one.errors, key) : null,
      one.statistics ? [drawPredictions(one.statistics.predictions ?? []), drawStatistics(one.statistics, key)] : null,
      rest(one, ["model", "name", "version", "seen_by", "verdict", "reason", "findings", "statistics", "errors"]));
  }), figures];
}
