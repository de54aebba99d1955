// The agent's page: who serves, latency, queue, breaker, chosen backend and why.
"use strict";
import { byId, el, inUnits, listen, setUpHead, short, show, showLink } from "./core.js";
import { Chart, largest, redraw, setUpSpans, setUpStatistics, takeSeries, takeTick, total, value } from "./charts.js";
import { facts, models, pill, section, table } from "./sections.js";
import { drawDrift } from "./drift.js";

const is = (metric, stat = "") => (one) => one.metric === metric && one.stat === stat;

setUpHead(redraw);
setUpSpans(byId("spans"));
byId("charts").append(...[
  new Chart("Who answers, per second", is("edgeward_answers_total", "per_s")),
  new Chart("Latency of 95 %", is("edgeward_request_duration_seconds", "p95")),
  new Chart("Where the time goes, half of the requests", is("edgeward_request_stage_seconds", "p50")),
  new Chart("Rows waiting", is("edgeward_queue_rows")),
  new Chart("Requests kept on disk for later", is("edgeward_spool_requests")),
  new Chart("Breaker: closed, open, half open", is("edgeward_breaker_state")),
  new Chart("Errors per second", is("edgeward_errors_total", "per_s")),
  new Chart("Fallbacks per second", is("edgeward_fallbacks_total", "per_s")),
  new Chart("Busy cores", is("edgeward_process_cpu_cores")),
].map((chart) => chart.root));
const statistics = setUpStatistics("agent");

let status = null;

function verdict() {
  const rate = total("edgeward_inferences_total"), errors = total("edgeward_errors_total"), p95 = largest("edgeward_request_duration_seconds", "p95");
  const troubles = [];
  if (value("edgeward_ready") === 0) troubles.push("it takes no new requests");
  if (errors > 0 && errors >= 0.01 * (rate + errors)) troubles.push(`${short((100 * errors) / (rate + errors))} % of requests end in an error`);
  if (status?.drill_file) troubles.push("a failure drill is armed");
  for (const { address, breaker, left_out } of status?.gateways ?? []) {
    if (breaker !== "closed") troubles.push(`the breaker before gateway ${address} is ${breaker.replace("_", " ")}`);
    else if (left_out) troubles.push(`gateway ${address} is left out for a while: ${left_out}`);
  }
  const numbers = [`${short(rate)} requests/s`, Number.isFinite(p95) ? `95 % within ${inUnits("x_seconds p95", p95)}` : null, errors ? `${short(errors)} errors/s` : "no errors"].filter(Boolean).join(", ");
  show(byId("verdict"), troubles.length ? el("strong", { class: "bad" }, "Look: ") : el("strong", { class: "good" }, "Yes. "), `${troubles.length ? `${troubles.join("; ")}. ` : ""}Now: ${numbers}.`);
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
    section(byId("models"), state, (data) => models(data.models ?? []));
    section(byId("gateway-facts"), state, ({ gateways, policy }) => (gateways?.length
      ? el("div", {}, facts([["policy", policy]]), ...gateways.map(gatewayFacts))
      : el("p", { class: "empty" }, `None: this device answers alone (policy ${policy}).`)));
    section(byId("requests-table"), state, ({ requests }) => {
      const rows = Object.entries(requests ?? {}).flatMap(([who, reasons]) => Object.entries(reasons).map(([why, count]) => ({ who, why, count })));
      return rows.length ? table([["who", (r) => r.who, "word"], ["why", (r) => r.why.replaceAll("_", " ")], ["requests", (r) => r.count.toLocaleString("en"), "number"]], rows) : el("p", { class: "empty" }, "No requests yet.");
    });
  },
  drift(state) { section(byId("drift-findings"), state, drawDrift); },
};

listen({
  series(names) { takeSeries(names); statistics.list(); },
  tick(row) { takeTick(row); statistics.values(); verdict(); },
  section({ name, ...state }) { draw[name]?.(state); },
}, showLink);
