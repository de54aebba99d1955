// The gateway's page, top to bottom: health, release, input, automation, decisions. Changes go through the admin API.
"use strict";
import { byId, clock, dialog, el, inUnits, listen, request, setUpHead, short, show, showLink, tell } from "./core.js";
import { Chart, largest, redraw, setUpSpans, setUpStatistics, takeSeries, takeTick, total, value } from "./charts.js";
import { models, pill, plain, rest, section, table } from "./sections.js";
import { drawDrift } from "./drift.js";

const is = (metric, stat = "") => (one) => one.metric === metric && one.stat === stat;

setUpHead(redraw);
setUpSpans(byId("spans"));
byId("charts").append(...[
  new Chart("Answers per second", is("edgeward_inferences_total", "per_s")),
  new Chart("Latency of 95 %", is("edgeward_request_duration_seconds", "p95")),
  new Chart("Where the time goes, half of the requests", is("edgeward_request_stage_seconds", "p50")),
  new Chart("Rows waiting", is("edgeward_queue_rows")),
  new Chart("Errors per second", is("edgeward_errors_total", "per_s")),
  new Chart("Busy cores", is("edgeward_process_cpu_cores")),
].map((chart) => chart.root));
const statistics = setUpStatistics("gateway");

let options = {};
const last = {};

function verdict() {
  const rate = total("edgeward_inferences_total"), errors = total("edgeward_errors_total"), p95 = largest("edgeward_request_duration_seconds", "p95");
  const troubles = [];
  if (value("edgeward_ready") === 0) troubles.push("it takes no new requests");
  if (errors > 0 && errors >= 0.01 * (rate + errors)) troubles.push(`${short((100 * errors) / (rate + errors))} % of requests end in an error`);
  const numbers = [`${short(rate)} requests/s`, Number.isFinite(p95) ? `95 % within ${inUnits("x_seconds p95", p95)}` : null, errors ? `${short(errors)} errors/s` : "no errors"].filter(Boolean).join(", ");
  show(byId("verdict"), troubles.length ? el("strong", { class: "bad" }, "Look: ") : el("strong", { class: "good" }, "Yes. "), `${troubles.length ? `${troubles.join("; ")}. ` : ""}Now: ${numbers}.`);
}

// ---------------------------------------------------------------- releases

const WHAT = {
  promote: ["Promote", "main", "takes the next stage now, whatever the guards say"],
  pause: ["Pause", "", "keeps the split as it is until somebody promotes, aborts or rolls back"],
  resume: ["Resume", "", "lets the guards decide again"],
  abort: ["Abort", "danger", "ends the release; all requests go to the stable version"],
  rollback: ["Roll back", "danger", "sends all requests to the previous version at once"],
};
const OVER = new Set(["promoted", "completed", "aborted", "rolled_back"]);
const MARKS = { advance: "good", promoted: "good", completed: "good", hold: "warn", paused: "warn", rollback: "bad", rolled_back: "bad", aborted: "bad" };

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

// Of a release, what `drawRelease` shows, and what tells a reader nothing.
const SHOWN = [
  "model", "stable", "candidate", "strategy", "stages", "stage", "state", "status", "reason", "verdict", "arms", "share", "in_stage_s", "trouble", "needed",
  "replaced_by_stable", "lost_observations", "losses", "release", "hold_s", "began_unix_ms", "changed_unix_ms", "is_alive", "is_leader", "is_leading", "leader", "waves", "switched_unix_us",
];

function drawRelease(one) {
  const stages = Array.isArray(one.stages) ? one.stages : [], at = Number(one.stage ?? -1);
  const arms = Object.entries(one.arms ?? {}).map(([arm, told]) => ({ arm, ...told }));
  const text = (percent) => `${short(percent)} %`;
  const state = String(one.status ?? one.state ?? "");
  const verdict = typeof one.verdict === "object" ? one.verdict : null, findings = Array.isArray(verdict?.findings) ? verdict.findings : [];
  return el("article", { class: "card" },
    el("h3", {}, `${one.model}: ${one.stable ?? "?"} → ${one.candidate ?? "?"} `, pill(state.replaceAll("_", " "), MARKS[state] ?? ""), one.strategy ? ` ${String(one.strategy).replaceAll("_", "-")}` : ""),
    stages.length ? el("ol", { class: "steps", "aria-label": "stages" }, stages.map((stage, index) => el("li", { class: index < at ? "done" : null, "aria-current": index === at ? "step" : null }, text(stage)))) : null,
    typeof one.share === "number" ? el("p", {}, `The candidate gets ${text(one.share * 100)} of the traffic${typeof one.in_stage_s === "number" ? `, in this stage for ${short(one.in_stage_s)} s` : ""}.`) : null,
    one.trouble ? el("p", {}, pill("trouble", "bad"), ` ${one.trouble}`) : null,
    one.reason && one.reason !== verdict?.reason ? el("p", {}, one.reason) : null,
    verdict ? el("p", {}, pill(String(verdict.action).replaceAll("_", " "), MARKS[verdict.action] ?? ""), ` ${(verdict.reason ?? "").replace(/[.;]?$/, ".")}`, verdict.needed && !/needed/.test(verdict.reason ?? "") ? ` About ${short(verdict.needed)} requests are still needed.` : "") : null,
    findings.length ? table([
      ["metric", (f) => [f.metric, f.segment].filter(Boolean).join(", "), "word"], ["stable", (f) => f.stable_estimate, "number"], ["candidate", (f) => f.candidate_estimate, "number"],
      ["worse by", (f) => (f.difference === null || f.difference === undefined ? null : `${short(f.difference)} (${short(f.lower)} … ${short(f.upper)})`), "number"],
      ["requests", (f) => (f.stable_count ?? 0) + (f.candidate_count ?? 0), "number"], ["test", (f) => f.test?.replaceAll("_", " ")], ["why", (f) => f.reason],
    ], findings) : null,
    arms.length ? table([
      ["arm", (a) => a.arm, "word"], ["requests", (a) => a.requests, "number"], ["errors", (a) => a.errors, "number"], ["p50, ms", (a) => a.p50_ms, "number"], ["p99, ms", (a) => a.p99_ms, "number"],
    ], arms) : null,
    one.waves ? el("p", {}, pill(`devices: ${one.waves.status}`, { done: "good", halted: "bad" }[one.waves.status] ?? ""), ` wave ${one.waves.wave} of ${one.waves.percent.length}, ${one.waves.given} of ${one.waves.devices} devices have it: ${one.waves.reason}.`) : null,
    one.replaced_by_stable ? el("p", {}, `Stable answered ${short(one.replaced_by_stable)} requests that the candidate failed.`) : null,
    one.lost_observations ? el("p", {}, `${short(one.lost_observations)} observations were lost.`) : null,
    rest(one, SHOWN),
    options.release_path && !OVER.has(state) ? el("div", { class: "row actions" }, Object.entries(WHAT).filter(([action]) => action !== (state === "paused" ? "pause" : "resume")).map(([action, [name, kind]]) => el("button", {
      type: "button", class: kind === "main" ? null : kind || null, "data-focus": `${one.model} ${action}`, "data-action": action, onclick: () => act(one.model, action),
    }, name))) : null);
}

// ---------------------------------------------------------------- reviews

function drawReviews({ waiting }) {
  if (!waiting) return el("p", { class: "empty" }, "Nothing is waiting.");
  return el("p", {}, `${waiting} ${waiting === 1 ? "request waits" : "requests wait"} for a person. `, options.review_path ? el("a", { href: options.review_path.slice(1) }, "Answer them") : null);
}

// ---------------------------------------------------------------- decisions

const MAX_LINES = 200;
function drawDecisions(data) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const lines = (data.decisions ?? []).filter((line) => { const text = JSON.stringify(line).toLowerCase(); return words.every((word) => text.includes(word)); });
  if (!lines.length) return el("p", { class: "empty" }, words.length ? "No decision has these words." : "No decision yet.");
  const at = (line) => line.at ?? (line.unix_ms ?? 0) / 1e3;
  return el("ul", { class: "log", tabindex: "0", "aria-label": "decisions, newest first" }, [...lines].sort((a, b) => at(b) - at(a)).slice(0, MAX_LINES).map((line) => el("li", {},
    el("time", {}, clock(at(line))), el("strong", {}, String(line.what ?? line.event ?? "").replaceAll("_", " ")), line.model ? ` ${line.model}` : "", line.acted === false ? [" ", pill("only noted")] : "",
    line.reason ?? line.document?.reason ? el("div", {}, line.reason ?? line.document.reason) : null, line.who ? el("div", { class: "note" }, `by ${line.who}`) : null)));
}
byId("filter").addEventListener("input", () => { if (last.decisions) section(byId("decision-log"), last.decisions, drawDecisions); });

// ---------------------------------------------------------------- what comes in

const draw = {
  status: (state) => section(byId("models"), state, (data) => models(data.models ?? [])),
  releases: (state) => section(byId("releases"), state, (data) => (Array.isArray(data.releases) ? (data.releases.length ? data.releases.map(drawRelease) : el("p", { class: "empty" }, "No release is under way.")) : el("div", { class: "card" }, plain(data)))),
  drift: (state) => section(byId("drift-findings"), state, drawDrift),
  automation: (state) => section(byId("levels"), state, (data) => (Array.isArray(data.models) ? (data.models.length ? table([
    ["model", (m) => el("strong", {}, m.model ?? m.name)], ["segment", (m) => m.segment], ["level", (m) => pill(String(m.level ?? "").replaceAll("_", " "))], ["since", (m) => (m.since ? clock(m.since) : null)], ["why", (m) => m.reason],
  ], data.models) : el("p", { class: "empty" }, "Models answer by themselves; no level is set.")) : plain(data))),
  reviews: (state) => section(byId("reviews"), state, drawReviews),
  decisions: (state) => section(byId("decision-log"), state, drawDecisions),
};

const seen = {
  series(names) { takeSeries(names); statistics.list(); },
  tick(row) { takeTick(row); statistics.values(); verdict(); },
  section({ name, ...state }) { last[name] = state; draw[name]?.(state); },
};
request("page/options").then((response) => response.json()).then((told) => { options = told; for (const [name, state] of Object.entries(last)) draw[name]?.(state); }).catch((error) => tell(error.message, "bad"));
listen(seen, showLink);
