// "Is the new version better?": a release, what its guards found, and both versions side by side.
"use strict";
import { capital, clock, count, el, percent, sentence, short } from "./core.js";
import { pill, table } from "./sections.js";

export const OVER = new Set(["promoted", "completed", "aborted", "rolled_back"]);
const MARKS = { advance: "good", promoted: "good", completed: "good", hold: "warn", paused: "warn", rollback: "bad", rolled_back: "bad", aborted: "bad" };
const FOUND = { advance: ["good", "No worse so far."], hold: ["", "Not known yet."], rollback: ["bad", "No."] };
const way = (one) => `${one.model}: ${one.stable ?? "?"} → ${one.candidate ?? "?"}`;
const status = (one) => one.status.replaceAll("_", " ");

/** For the line at the top: [kind, word, text, concern]. */
export function releaseAnswer({ releases }) {
  if (!releases.length) return ["", "No new version is on trial.", ""];
  const alive = releases.filter((one) => !OVER.has(one.status)), failing = alive.filter((one) => one.trouble || one.verdict?.action === "rollback");
  const one = failing[0] ?? alive[0] ?? releases[0];
  if (!alive.length) return [MARKS[one.status], sentence(capital(status(one))), sentence(`${way(one)}${one.changed_unix_ms ? `, ${clock(one.changed_unix_ms / 1e3)}` : ""}: ${one.reason}`)];
  const [kind, word] = one.trouble ? ["bad", "Look:"] : FOUND[one.verdict?.action] ?? FOUND.hold;
  const traffic = one.strategy === "shadow" ? "answers unseen beside stable" : `gets ${short(one.share * 100)} % of the traffic`;
  const text = `${way(one)} ${traffic}${one.status === "paused" ? ", paused" : ""}: ${sentence(one.trouble ?? one.verdict?.reason ?? one.reason)}${alive.length > 1 ? ` ${alive.length - 1} more below.` : ""}`;
  return [kind, word, text, failing.length ? `the release of ${one.model} is in trouble` : null];
}

/** A release with what is known of it; `controls`: elements for who may change it. Of the document only what has words here is shown. */
export function drawRelease(one, controls) {
  const stages = one.stages ?? [], at = one.stage ?? -1;
  const arms = Object.entries(one.arms ?? {}).map(([arm, told]) => ({ arm, ...told }));
  const text = (percent) => `${short(percent)} %`;
  const state = one.status;
  const verdict = one.verdict ?? null, findings = verdict?.findings ?? [];
  return el("article", { class: "card" },
    el("h3", {}, `${way(one)} `, pill(status(one), MARKS[state] ?? ""), one.strategy ? ` ${String(one.strategy).replaceAll("_", "-")}` : ""),
    stages.length ? el("ol", { class: "steps", "aria-label": "stages" }, stages.map((stage, index) => el("li", { class: index < at ? "done" : null, "aria-current": index === at ? "step" : null }, text(stage)))) : null,
    typeof one.share === "number" && !OVER.has(state) ? el("p", {}, `The candidate gets ${text(one.share * 100)} of the traffic${typeof one.in_stage_s === "number" ? `, in this stage for ${short(one.in_stage_s)} s` : ""}.`) : null,
    one.trouble ? el("p", {}, pill("trouble", "bad"), ` ${one.trouble}`) : null,
    one.reason && one.reason !== verdict?.reason ? el("p", {}, capital(sentence(one.reason))) : null,
    verdict ? el("p", {}, pill(String(verdict.action).replaceAll("_", " "), MARKS[verdict.action] ?? ""), ` ${sentence(verdict.reason ?? "")}`, verdict.needed && !/needed/.test(verdict.reason ?? "") ? ` About ${short(verdict.needed)} requests are still needed.` : "") : null,
    findings.length ? table([
      ["metric", (f) => [f.metric, f.segment].filter(Boolean).join(", "), "word"], ["stable", (f) => f.stable_estimate, "number"], ["candidate", (f) => f.candidate_estimate, "number"],
      ["worse by", (f) => (f.difference === null || f.difference === undefined ? null : `${short(f.difference)} (${short(f.lower)} … ${short(f.upper)})`), "number"],
      ["requests", (f) => count((f.stable_count ?? 0) + (f.candidate_count ?? 0)), "number"], ["test", (f) => f.test?.replaceAll("_", " ")], ["why", (f) => f.reason],
    ], findings) : null,
    arms.length ? table([
      ["arm", (a) => a.arm, "word"], ["requests", (a) => count(a.requests), "number"], ["errors", (a) => count(a.errors), "number"], ["p50, ms", (a) => a.p50_ms, "number"], ["p99, ms", (a) => a.p99_ms, "number"],
    ], arms) : null,
    one.shadow ? sideBySide(one.shadow) : null,
    one.waves ? el("p", {}, pill(`devices: ${one.waves.status}`, { done: "good", halted: "bad" }[one.waves.status] ?? ""), ` wave ${one.waves.wave} of ${one.waves.percent.length}, ${count(one.waves.given)} of ${count(one.waves.devices)} devices have it: ${one.waves.reason}.`) : null,
    one.replaced_by_stable ? el("p", {}, `Stable answered ${count(one.replaced_by_stable)} requests that the candidate failed.`) : null,
    one.lost_observations ? el("p", {}, `${count(one.lost_observations)} observations were lost.`) : null,
    one.fenced_answers ? el("p", {}, `Stable answered ${count(one.fenced_answers)} requests while this gateway could not know what was decided.`) : null,
    controls);
}

const MAX_PAIRS = 3;
/** Both versions on the same requests, over all and by segment. */
function sideBySide({ segments, ...all }) {
  const pairs = (confusion) => Object.entries(confusion).slice(0, MAX_PAIRS).map(([pair, rows]) => `${pair.replace(">", " → ")}: ${count(rows)}`).join(", ");
  return table([
    ["answered by both", (s) => s.name, "word"], ["requests", (s) => count(s.compared), "number"], ["the same", (s) => percent(s.agreement), "number"], ["stable beside itself", (s) => percent(s.noise_floor.agreement), "number"],
    ["candidate failed", (s) => count(s.candidate_errors), "number"], ["stable p50, ms", (s) => s.stable.p50_ms, "number"], ["candidate p50, ms", (s) => s.candidate.p50_ms, "number"], ["differ most", (s) => pairs(s.confusion)],
  ], [{ name: "all", ...all }, ...Object.entries(segments).map(([name, one]) => ({ name, ...one }))]);
}
