// Where a model errs, by its labels, and its figures beside the targets.
"use strict";
import { clock, count, el, percent, short } from "./core.js";
import { folded, pill, table } from "./sections.js";

const FIGURES = { accuracy: ["accuracy", percent], p95_latency_ms: ["95 % of requests within", (v) => `${short(v)} ms`], rows_per_s: ["rows a second", (v) => short(v)] };
const figure = (value, show) => (value === null || value === undefined ? null : show(value));
// Of a latency, less is better.
const isMissed = (f) => f.target !== null && f.live !== null && f.live !== undefined && (f.figure.includes("latency") ? f.live > f.target : f.live < f.target);

/** [{model, version, figures: [{figure, target, training, dev, test, live, estimated}]}] */
export function drawFigures(list) {
  if (!list.length) return null;
  const lines = list.flatMap((one) => one.figures.map((f) => ({ ...f, model: `${one.model} ${one.version}`, name: FIGURES[f.figure]?.[0] ?? f.figure, show: FIGURES[f.figure]?.[1] ?? short })));
  const column = (title, key) => [title, (f) => figure(f[key], f.show), "number"];
  return el("article", { class: "card", id: "figures" }, el("h3", {}, "Figures beside the targets"), table([
    ["model", (f) => f.model, "word"], ["figure", (f) => f.name], column("target", "target"), column("training", "training"), column("built", "dev"), column("tried here", "test"),
    ["live", (f) => (isMissed(f) ? el("span", {}, `${f.show(f.live)} `, pill("missed", "bad")) : figure(f.live, f.show)), "number"], column("estimated", "estimated"),
  ], lines));
}

const SVG = "http://www.w3.org/2000/svg";
const SIDE = 180;
function shape(tag, properties, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Right answers over confidence: on the diagonal, a confidence means what it says; a dot is larger for more rows. */
function curve({ curve: points, expected_calibration_error: error }) {
  const x = (v) => (8 + v * (SIDE - 16)).toFixed(1), y = (v) => (SIDE - 8 - v * (SIDE - 16)).toFixed(1);
  const most = Math.max(...points.map((p) => p.rows));
  const told = points.map((p) => `${percent(p.accuracy)} right at ${percent(p.confidence)}`).join(", ");
  return el("figure", { class: "calibration" }, shape("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", "aria-label": `Calibration: ${told}` },
    shape("path", { class: "diagonal", d: `M${x(0)},${y(0)}L${x(1)},${y(1)}` }),
    shape("path", { class: "line", d: points.map((p, at) => `${at ? "L" : "M"}${x(p.confidence)},${y(p.accuracy)}`).join("") }),
    ...points.map((p) => shape("circle", { cx: x(p.confidence), cy: y(p.accuracy), r: (2 + 4 * Math.sqrt(p.rows / most)).toFixed(1) }))),
  el("figcaption", { class: "note" }, `Share right (up) over confidence (right); off by ${percent(error)} on average.`));
}

/** What `ErrorLog.document` tells. */
export function drawErrors(errors, key) {
  return el("div", { class: "actions" },
    el("p", {}, `${count(errors.wrong_rows)} of the newest ${count(errors.rows)} labelled rows are wrong.`),
    errors.slices.length ? [el("h3", {}, "Where it errs most"), table([
      ["rows where", (s) => s.slice], ["rows", (s) => count(s.rows), "number"], ["wrong", (s) => percent(s.loss), "number"], ["elsewhere", (s) => percent(s.rest_loss), "number"],
      ["", (s) => (s.is_proven ? pill("proven", "bad") : pill("may be chance"))],
    ], errors.slices)] : null,
    el("div", { class: "grid actions" },
      errors.confusion.length ? el("div", {}, el("h3", {}, "What is taken for what"), table([
        ["label", (c) => c.label, "word"], ["answered", (c) => c.predicted, "word"], ["rows", (c) => c.rows, "number"], ["of that label", (c) => percent(c.share), "number"],
      ], errors.confusion)) : null,
      errors.calibration ? el("div", {}, el("h3", {}, "Does its confidence hold?"), curve(errors.calibration)) : null),
    errors.newest_disagreements.length ? folded(`wrong ${key}`, "Newest wrong answers", table([
      ["when", (d) => clock(d.at_unix), "word"], ["request", (d) => `${d.request}, row ${d.row}`], ["answered", (d) => d.predicted, "word"], ["label", (d) => d.label, "word"], ["confidence", (d) => percent(d.confidence), "number"],
    ], errors.newest_disagreements)) : null);
}
