// The agent's page: who serves, latency, queue, breaker, chosen backend and why.
"use strict";
import { byId, count, el, listen, sentence, setUpHead, short, showLink } from "./core.js";
import { Chart, redraw, setUpSpans, setUpStatistics, takeSeries, takeTick } from "./charts.js";
import { facts, models, pill, section, table } from "./sections.js";
import { drawDrift, inputAnswer } from "./drift.js";
import { answer, sayHealth, sayLink } from "./summary.js";

const is = (metric, stat = "") => (one) => one.metric === metric && one.stat === stat;

setUpHead(redraw);
setUpSpans(byId("spans"));
byId("charts").append(...[
  new Chart("Who answers, per second", is("edgeward_answers_total", "per_s")),
  new Chart("Latency of 95 %", is("edgeward_request_duration_seconds", "p95")),
  new Chart("Where the time goes, half of the requests", is("edgeward_request_stage_seconds", "p50")),
  new Chart("Rows waiting", is("edgeward_queue_rows")),
  new Chart("Requests kept on disk for later", is("edgeward_spool_requests")),
  new Chart("Breaker: closed, open, half open", is("edgeward_breaker_state"), { none: "no gateway is set" }),
  new Chart("Errors per second", is("edgeward_errors_total", "per_s"), { none: "none" }),
  new Chart("Fallbacks per second", is("edgeward_fallbacks_total", "per_s"), { none: "none" }),
  new Chart("Busy cores", is("edgeward_process_cpu_cores")),
].map((chart) => chart.root));
const statistics = setUpStatistics("agent");

let status = null;

function troubles() {
  return [status?.drill_file ? "a failure drill is armed" : null, ...(status?.gateways ?? []).map(({ address, breaker, left_out }) => {
    if (breaker !== "closed") return `the breaker before gateway ${address} is ${breaker.replace("_", " ")}`;
    return left_out ? `gateway ${address} is left out for a while: ${left_out}` : null;
  })].filter(Boolean);
}

function servingAnswer({ models: [first, ...others] }) {
  if (!first) return ["bad", "None.", "No model is loaded.", "no model is loaded"];
  const why = (first.why ?? "").replace(`${first.backend}: `, "");  // which it begins with
  return ["", first.backend, sentence(`answers ${first.name} ${first.version}${why && `: ${why}`}`) + (others.length ? ` ${others.length} more below.` : "")];
}

function gatewayAnswer({ gateways, policy }) {
  if (!gateways?.length) return ["", "None.", `This device answers alone (policy ${policy}).`];
  const reached = gateways.filter((one) => one.is_reachable).length;
  return [reached === gateways.length ? "good" : "bad", `${reached} of ${gateways.length} reachable.`, `Policy ${policy}.`];
}

const rowsOf = (requests) => Object.entries(requests ?? {}).flatMap(([who, reasons]) => Object.entries(reasons).map(([why, count]) => ({ who, why: why.replaceAll("_", " "), count })));

function requestsAnswer({ requests }) {
  const rows = rowsOf(requests).filter((row) => row.count).sort((a, b) => b.count - a.count), all = rows.reduce((sum, row) => sum + row.count, 0);
  if (!all) return ["", "Nobody yet.", ""];
  return ["", `The ${rows[0].who}, ${rows[0].why}:`, `${count(rows[0].count)} of ${count(all)} requests.`];
}

function gatewayFacts(gateway) {
  return facts([
    ["address", gateway.address],
    ["reachable", gateway.is_reachable ? pill("yes", "good") : el("span", {}, pill("no", "bad"), ` ${gateway.probe_error ?? ""}`)],
    ["breaker", el("span", {}, pill(String(gateway.breaker), gateway.breaker === "closed" ? "good" : "warn"), ` ${gateway.breaker_reason ?? ""}`)],
    ["in service", gateway.left_out ? el("span", {}, pill("left out for a while", "warn"), ` ${gateway.left_out}`) : pill("yes", "good")],
    ["its answers lately", gateway.recent_answers ? `${gateway.recent_answers}: half within ${short(gateway.p50_ms)} ms, 95 % within ${short(gateway.p95_ms)} ms` : "none"],
    ["its last error", gateway.last_error ? `${gateway.last_error} (${short(gateway.last_error_age_s)} s ago)` : "none"],
  ]);
}

const draw = {
  status(state) {
    status = state.data ?? null;
    answer("serving", state, servingAnswer);
    answer("gateway", state, gatewayAnswer);
    answer("requests", state, requestsAnswer);
    section(byId("models"), state, (data) => models(data.models ?? []));
    section(byId("gateway-facts"), state, ({ gateways, policy }) => (gateways?.length
      ? el("div", {}, facts([["policy", policy]]), ...gateways.map(gatewayFacts))
      : el("p", { class: "empty" }, `None: this device answers alone (policy ${policy}).`)));
    section(byId("requests-table"), state, ({ requests }) => {
      const rows = rowsOf(requests);
      return rows.length ? table([["who", (r) => r.who, "word"], ["why", (r) => r.why], ["requests", (r) => count(r.count), "number"]], rows, "narrow") : el("p", { class: "empty" }, "No requests yet.");
    });
  },
  drift(state) { section(byId("drift-findings"), state, drawDrift); answer("drift", state, inputAnswer); },
};

listen({
  series(names) { takeSeries(names); statistics.list(); },
  tick(row) { takeTick(row); statistics.values(); sayHealth(troubles()); },
  section({ name, ...state }) { draw[name]?.(state); },
}, (isUp) => { showLink(isUp); sayLink(isUp); });
