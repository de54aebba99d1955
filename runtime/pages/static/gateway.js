// The gateway's page, top to bottom: health, release, input, automation, decisions. Changes go through the admin API.
"use strict";
import { byId, capital, clock, count, dialog, el, listen, request, sentence, setUpHead, showLink, tell } from "./core.js";
import { Chart, redraw, setUpSpans, setUpStatistics, takeSeries, takeTick } from "./charts.js";
import { models, pill, section, table } from "./sections.js";
import { drawDrift, inputAnswer } from "./drift.js";
import { OVER, drawRelease, releaseAnswer } from "./release.js";
import { answer, sayHealth, sayLink } from "./summary.js";

const is = (metric, stat = "") => (one) => one.metric === metric && one.stat === stat;

setUpHead(redraw);
setUpSpans(byId("spans"));
byId("charts").append(...[
  new Chart("Answers per second", is("edgeward_inferences_total", "per_s")),
  new Chart("Latency of 95 %", is("edgeward_request_duration_seconds", "p95")),
  new Chart("Where the time goes, half of the requests", is("edgeward_request_stage_seconds", "p50")),
  new Chart("Rows waiting", is("edgeward_queue_rows")),
  new Chart("Errors per second", is("edgeward_errors_total", "per_s"), { none: "none" }),
  new Chart("Busy cores", is("edgeward_process_cpu_cores")),
].map((chart) => chart.root));
const statistics = setUpStatistics("gateway");

let options = {};
const last = {};

// ---------------------------------------------------------------- releases

const WHAT = {
  promote: ["Promote", "main", "takes the next stage now, whatever the guards say"],
  pause: ["Pause", "", "keeps the split as it is until somebody promotes, aborts or rolls back"],
  resume: ["Resume", "", "lets the guards decide again"],
  abort: ["Abort", "danger", "ends the release; all requests go to the stable version"],
  rollback: ["Roll back", "danger", "sends all requests to the previous version at once"],
};
async function act(model, action) {
  const [name, kind, effect] = WHAT[action];
  try {
    await dialog(`${name} the release of ${model}?`, [el("p", {}, `This ${effect}. It is written to the audit log.`)], name, undefined, kind || "main");
    await request(fill(options.release_path, { model, action }), { method: "POST", body: {}, needsKey: true });
    tell(`${name}: done.`, "good");
  } catch (error) {
    if (error.message !== "cancelled") tell(`${name}: ${error.message}`, "bad");
  }
}

const fill = (path, values) => path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(values[name]));

function controls({ model, status }) {
  if (!options.release_path || OVER.has(status)) return null;
  return el("div", { class: "row actions" }, Object.entries(WHAT).filter(([action]) => action !== (status === "paused" ? "pause" : "resume")).map(([action, [name, kind]]) => el("button", {
    type: "button", class: kind === "main" ? null : kind || null, "data-focus": `${model} ${action}`, "data-action": action, onclick: () => act(model, action),
  }, name)));
}

// ---------------------------------------------------------------- who decides

const WHO = {
  human_only: "people, and the model is not asked", shadow: "people, who do not see what the model says", assist: "people, who see what the model suggests",
  partial: "the model where its confidence is proven, else people", full: "the model",
};
const WORD = { human_only: "People.", shadow: "People.", assist: "People.", partial: "Both.", full: "The model." };
const MAX_TOLD = 3;

function automationAnswer(data) {
  const waiting = last.reviews?.data?.waiting, wait = waiting ? ` ${waits(waiting)}` : "";
  if (!data.models.length) return ["", "The models.", `Each answers by itself; no level is set.${wait}`];
  const words = [...new Set(data.models.map((one) => WORD[one.level] ?? "Both."))], more = data.models.length - MAX_TOLD;
  const told = data.models.slice(0, MAX_TOLD).map((one) => `${one.model}${one.segment ? ` in ${one.segment}` : ""}: ${WHO[one.level] ?? one.level}`).join("; ");
  return ["", words.length > 1 ? "Both." : words[0], `${told}${more > 0 ? `; ${more} more below` : ""}.${wait}`];
}

const waits = (waiting) => `${count(waiting)} ${waiting === 1 ? "request waits" : "requests wait"} for a person.`;

function drawReviews({ waiting }) {
  if (!waiting) return el("p", { class: "empty" }, "Nothing is waiting.");
  return el("p", {}, `${waits(waiting)} `, options.review_path ? el("a", { href: options.review_path.slice(1) }, "Answer them") : null);
}

// ---------------------------------------------------------------- decisions

const at = (line) => line.at ?? (line.unix_ms ?? 0) / 1e3;
const what = (line) => String(line.what ?? line.event ?? "").replaceAll("_", " ");
const why = (line) => line.reason || line.document?.reason;
const newestFirst = (data) => [...data.decisions].sort((a, b) => at(b) - at(a));

function decisionsAnswer(data) {
  const acted = newestFirst(data).filter((line) => line.acted !== false), one = acted.find(why) ?? acted[0];
  return one ? ["", capital(what(one)), sentence(`${one.model ? `of ${one.model}, ` : ""}${clock(at(one))}${one.who ? `, by ${one.who}` : ""}${why(one) ? `: ${why(one)}` : ""}`)] : ["", "Nothing yet.", ""];
}

const MAX_LINES = 200;
function drawDecisions(data) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const lines = newestFirst(data).filter((line) => { const text = JSON.stringify(line).toLowerCase(); return words.every((word) => text.includes(word)); });
  if (!lines.length) return el("p", { class: "empty" }, words.length ? "No decision has these words." : "No decision yet.");
  return el("ul", { class: "log", tabindex: "0", "aria-label": "decisions, newest first" }, lines.slice(0, MAX_LINES).map((line) => el("li", {},
    el("time", {}, clock(at(line))), el("strong", {}, what(line)), line.model ? ` ${line.model}` : "", line.acted === false ? [" ", pill("only noted")] : "",
    why(line) ? el("div", {}, why(line)) : null, line.who ? el("div", { class: "note" }, `by ${line.who}`) : null)));
}
byId("filter").addEventListener("input", () => { if (last.decisions) section(byId("decision-log"), last.decisions, drawDecisions); });

// ---------------------------------------------------------------- what comes in

const draw = {
  status: (state) => section(byId("models"), state, (data) => models(data.models ?? [])),
  releases: (state) => section(byId("releases"), state, (data) => (data.releases.length ? data.releases.map((one) => drawRelease(one, controls(one))) : el("p", { class: "empty" }, "No release is under way."))),
  drift: (state) => section(byId("drift-findings"), state, drawDrift),
  automation: (state) => section(byId("levels"), state, (data) => (data.models.length ? table([
    ["model", (m) => el("strong", {}, m.model ?? m.name)], ["segment", (m) => m.segment], ["level", (m) => pill(String(m.level ?? "").replaceAll("_", " "))], ["since", (m) => (m.since ? clock(m.since) : null)], ["why", (m) => m.reason],
  ], data.models) : el("p", { class: "empty" }, "Models answer by themselves; no level is set."))),
  reviews: (state) => section(byId("reviews"), state, drawReviews),
  decisions: (state) => section(byId("decision-log"), state, drawDecisions),
};

const answers = { releases: ["release", releaseAnswer], drift: ["drift", inputAnswer], automation: ["automation", automationAnswer], decisions: ["decisions", decisionsAnswer] };

function take(name, state) {
  last[name] = state;
  draw[name]?.(state);
  const part = name === "reviews" ? "automation" : name;  // whose line tells what waits
  if (part in answers && part in last) answer(answers[part][0], last[part], answers[part][1]);
}

const seen = {
  series(names) { takeSeries(names); statistics.list(); },
  tick(row) { takeTick(row); statistics.values(); sayHealth(); },
  section({ name, ...state }) { take(name, state); },
};
request("page/options").then((response) => response.json()).then((told) => { options = told; for (const [name, state] of Object.entries(last)) draw[name]?.(state); }).catch((error) => tell(error.message, "bad"));
listen(seen, (isUp) => { showLink(isUp); sayLink(isUp); });
