// Charts that live: the history of their series once, then a point each second; only what is on screen is drawn.
"use strict";
import { breakable, el, byId, inUnits, keep, local, recall, request, short } from "./core.js";

export const SPANS = [[600, "10 min"], [10_800, "3 h"], [86_400, "24 h"], [2_592_000, "30 days"]];
const LIVE_S = 600;
// Beyond this a chart is a tangle; the list of statistics has them all.
const MAX_LINES = 8;
const MAX_ASKED = 64;

/** "edgeward_rows_total{model=\"a\"} per_s" → {metric: "edgeward_rows_total", labels: {model: "a"}, stat: "per_s"}. */
export function parse(name) {
  const open = name.indexOf("{"), close = name.lastIndexOf("}");
  const [metric, rest] = open < 0 ? [name.split(" ")[0], name.slice(name.indexOf(" ") + 1 || name.length)] : [name.slice(0, open), name.slice(close + 1).trim()];
  const labels = {};
  if (open >= 0) for (const [, label, value] of name.slice(open + 1, close).matchAll(/([a-z_]+)="(.*?)"(?=,[a-z_]+="|$)/gs)) labels[label] = value;
  return { name, metric, labels, stat: rest };
}

/** All series of the program: names in the server's order, and their newest values. */
export const series = { names: [], parsed: [], values: [], at: 0 };

export function value(metric, wanted = {}, stat = "") {
  const at = series.parsed.findIndex((one) => one.metric === metric && one.stat === stat && Object.entries(wanted).every(([k, v]) => one.labels[k] === v));
  return at < 0 ? null : series.values[at] ?? null;
}
export function total(metric, wanted = {}, stat = "per_s") {
  return series.parsed.reduce((sum, one, at) => one.metric === metric && one.stat === stat && Object.entries(wanted).every(([k, v]) => one.labels[k] === v) ? sum + (series.values[at] ?? 0) : sum, 0);
}
export function largest(metric, stat) {
  return series.parsed.reduce((most, one, at) => one.metric === metric && one.stat === stat ? Math.max(most, series.values[at] ?? -Infinity) : most, -Infinity);
}

let span = Number(recall(local, "edgeward.span")) || LIVE_S;
if (!SPANS.some(([s]) => s === span)) span = LIVE_S;
const charts = new Set();
const looker = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) { target.chart.isSeen = isIntersecting; target.chart.draw(); }
}, { rootMargin: "200px" });
const sizer = new ResizeObserver((all) => { for (const { target } of all) target.chart?.fit(); });

/** Where a value has none beside it, as of a request in a calm hour: no line goes there, so it is drawn as a point. */
const alone = (values) => values.flatMap((one, at) => (one != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));

/** A chart of every series that `pick(parsed)` takes; a line's name is what tells it from the others. `none`: what it means that there is none. */
export class Chart {
  constructor(title, pick, { corner = null, none = "nothing yet" } = {}) {
    this.title = title;
    this.pick = pick;
    this.none = none;
    this.lines = [];
    this.data = [[]];
    this.plot = null;
    this.isSeen = false;
    this.place = el("div", { class: "plot" });
    this.empty = el("p", { class: "empty" }, "nothing yet");
    this.root = el("figure", { class: "card chart", "aria-label": title }, el("h3", {}, el("span", {}, breakable(title)), corner), this.empty, this.place);
    this.root.chart = this.place.chart = this;
    charts.add(this);
    looker.observe(this.root);
    sizer.observe(this.place);
  }

  close() {
    charts.delete(this);
    looker.unobserve(this.root);
    sizer.unobserve(this.place);
    this.plot?.destroy();
    this.root.remove();
  }

  /** Whether its series are other ones than before. */
  match() {
    const next = series.parsed.map((one, number) => ({ ...one, number })).filter(this.pick).slice(0, MAX_LINES);
    if (next.map((one) => one.name).join("\n") === this.lines.map((one) => one.name).join("\n") && this.lines.every((line, at) => line.number === next[at].number)) return false;
    this.lines = next;
    return true;
  }

  fill(times, means, peaks) {
    this.data = [times, ...means, ...peaks];
    this.build();
  }

  push(at, values) {
    if (span !== LIVE_S || this.data.length !== this.lines.length + 1) return;
    const times = this.data[0];
    if (times.length && at <= times[times.length - 1]) return;
    times.push(at);
    this.lines.forEach((line, index) => this.data[index + 1].push(values[line.number] ?? null));
    while (times.length && times[0] < at - LIVE_S) for (const column of this.data) column.shift();
    this.draw();
  }

  draw() {
    if (this.plot && this.isSeen && !this.isDue) {
      this.isDue = true;
      requestAnimationFrame(() => {
        this.isDue = false;
        this.plot?.setData(this.data, true);
        this.tellNewest();
      });
    }
  }

  /** The legend shows the newest values unless somebody points at others. */
  tellNewest() {
    if (this.plot && this.data[0].length && (this.plot.cursor.left ?? -10) < 0) this.plot.setLegend({ idx: this.data[0].length - 1 }, false);
  }

  fit() {
    if (this.plot && this.place.clientWidth > 0 && this.plot.width !== this.place.clientWidth) this.plot.setSize({ width: this.place.clientWidth, height: this.plot.height });
  }

  build() {
    this.plot?.destroy();
    this.plot = null;
    this.empty.classList.toggle("hidden", this.lines.length > 0);
    this.place.classList.toggle("hidden", this.lines.length === 0);
    if (!this.lines.length) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const names = tellApart(this.lines);
    const kind = `${this.lines[0].metric} ${this.lines[0].stat}`;
    const hasPeaks = this.data.length > this.lines.length + 1, peakOf = (at) => at + 1 + this.lines.length;
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1 }, font: "12px system-ui" };
    this.plot = new uPlot({
      width: this.place.clientWidth || 320, height: 170,
      padding: [null, 20, null, null],
      cursor: { sync: { key: "all" }, y: false },
      scales: { x: { time: true, range: (u, low, high) => { const now = Math.max(high ?? 0, series.at || Date.now() / 1e3); return [Math.max(now - span, Math.min(low ?? 0, now - 60)), now]; } }, y: { range: (u, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, space: 70, size: 32, values: (u, ticks) => ticks.map((at) => timeTick(at, u.scales.x.max - u.scales.x.min)) }, { ...axis, size: 72, values: (u, ticks) => ticks.map((tick) => inUnits(kind, tick)) }],
      series: [{ value: (u, at) => (at == null ? "–" : new Date(at * 1e3).toLocaleTimeString()), label: "time" },
        ...this.lines.map((line, at) => ({
          label: names[at], stroke: colour(`--c${at % 8}`), width: 1.5, dash: at >= 8 ? [4, 3] : undefined, spanGaps: false,
          points: { show: this.data[0].length < 3, size: 4, fill: colour(`--c${at % 8}`), filter: (u, number, all) => (all ? null : alone(u.data[number])) },
          value: (u, raw, place, index) => {
            const unit = `${line.metric} ${line.stat}`, peak = hasPeaks && index !== null && index !== undefined ? this.data[peakOf(at)][index] : null;
            return peak === null || peak === undefined || peak === raw ? inUnits(unit, raw) : `${inUnits(unit, raw)}, peak ${inUnits(unit, peak)}`;
          },
        })),
        ...(hasPeaks ? this.lines.map((line, at) => ({ label: `peak of ${names[at]}`, class: "peak", stroke: `${colour(`--c${at % 8}`)}55`, width: 1, points: { show: false } })) : [])],
      bands: hasPeaks ? this.lines.map((line, at) => ({ series: [peakOf(at), at + 1], fill: `${colour(`--c${at % 8}`)}2b` })) : [],
    }, this.data, this.place);
    this.tellNewest();
  }
}

function timeTick(at, range) {
  const time = new Date(at * 1e3);
  if (range > 172_800) return time.toLocaleDateString([], { day: "numeric", month: "short" });
  return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false, ...(range < 180 ? { second: "2-digit" } : {}) });
}

/** What is not the same for all lines: labels and statistic; all of it for a single line. */
function tellApart(lines) {
  const labels = [...new Set(lines.flatMap((line) => Object.keys(line.labels)))];
  const differ = labels.filter((label) => new Set(lines.map((line) => line.labels[label])).size > 1);
  const stats = new Set(lines.map((line) => line.stat)).size > 1;
  const metrics = new Set(lines.map((line) => line.metric)).size > 1;
  return lines.map((line) => {
    const words = [...differ.map((label) => line.labels[label]).filter(Boolean), ...(stats ? [line.stat] : [])];
    if (metrics) words.unshift(line.metric.replace(/^edgeward_/, "").replaceAll("_", " "));
    return words.join(" ") || line.stat.replace("per_s", "per second") || "now";
  });
}

let fetching = 0;
/** Fetches the history of what charts show and draws it; all of them, or those given. */
export async function reload(some = charts) {
  const mine = ++fetching;
  const list = [...some];
  const numbers = [...new Set(list.flatMap((chart) => chart.lines.map((line) => line.number)))];
  const columns = new Map();
  let times = [], isWhole = true;
  for (let at = 0; at < numbers.length; at += MAX_ASKED) {
    const part = numbers.slice(at, at + MAX_ASKED);
    const told = await (await request(`page/history?series=${part.join(",")}&span_s=${span}`)).json();
    part.forEach((number, place) => columns.set(number, told.columns[place]));
    isWhole = told.step_s === 1;
    if (!times.length || told.times.length < times.length) times = told.times;
  }
  if (mine !== fetching && some === charts) return;
  const column = (line, which) => (columns.get(line.number)?.[which] ?? []).slice(0, times.length);
  // A second is its own peak; a longer point has its mean as a line and what reaches up to its peak as a band.
  for (const chart of list) if (charts.has(chart)) chart.fill([...times], chart.lines.map((line) => column(line, 0)), isWhole ? [] : chart.lines.map((line) => column(line, 1)));
}

let reloading = null;
function reloadSoon() {
  reloading ??= setTimeout(() => { reloading = null; reload().catch((error) => console.warn(error.message)); }, 50);
}

export function takeSeries(names) {
  series.names = names;
  series.parsed = names.map(parse);
  for (const chart of charts) chart.empty.textContent = chart.none;
  const changed = [...charts].filter((chart) => chart.match());
  if (changed.length) reloadSoon();
}

export function takeTick({ at, values }) {
  series.at = at;
  series.values = values;
  for (const chart of charts) chart.push(at, values);
}

export function redraw() {
  for (const chart of charts) chart.build();
}

/** The buttons that choose how far back all charts reach. */
export function setUpSpans(place) {
  const buttons = SPANS.map(([seconds, text]) => el("button", {
    type: "button", "aria-pressed": String(seconds === span),
    onclick: () => {
      span = seconds;
      keep(local, "edgeward.span", String(span));
      buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(SPANS[at][0] === span)));
      reload().catch((error) => console.warn(error.message));
    },
  }, text));
  place.append(...buttons);
  // Coarse points come seldom; a chart of a day need not be asked for every second.
  setInterval(() => { if (span !== LIVE_S && !document.hidden) reloadSoon(); }, 30_000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) reloadSoon(); });
}

// ---------------------------------------------------------------- all statistics, and those that are pinned

const MAX_ROWS = 200;

export function setUpStatistics(title) {
  const name = `edgeward.pins.${title}`;
  let pins = [];
  try { pins = JSON.parse(recall(local, name) ?? "[]").filter((pin) => typeof pin === "string"); } catch { /* somebody else's */ }
  const drawn = new Map();
  let ranks = new Map(), actions = 0, whyNot = "";

  const drawPins = () => {
    for (const [pin, chart] of drawn) if (!pins.includes(pin)) { chart.close(); drawn.delete(pin); }
    for (const pin of pins) {
      if (drawn.has(pin)) continue;
      const off = el("button", { type: "button", "aria-label": `Unpin ${pin}`, onclick: () => toggle(pin) }, "Unpin");
      const chart = new Chart(pin, (one) => one.name === pin, { corner: off });
      drawn.set(pin, chart);
      byId("pinned").append(chart.root);
      chart.match();
      reload([chart]).catch((error) => console.warn(error.message));
    }
  };
  const toggle = (pin) => {
    pins = pins.includes(pin) ? pins.filter((one) => one !== pin) : [...pins, pin];
    keep(local, name, JSON.stringify(pins));
    drawPins();
    list();
  };

  const rows = byId("statistics-rows"), search = byId("search"), told = byId("statistics-told");
  let cells = new Map();
  const list = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = series.names.map((text, at) => ({ text, at, rank: ranks.get(text) ?? null }))
      .filter(({ text }) => words.every((word) => text.toLowerCase().includes(word)))
      .sort((a, b) => (b.rank?.lift ?? 0) - (a.rank?.lift ?? 0) || a.text.localeCompare(b.text));
    cells = new Map();
    rows.replaceChildren(...found.slice(0, MAX_ROWS).map(({ text, at, rank }) => {
      const cell = el("td", { class: "number", "data-label": "now" });
      cells.set(at, cell);
      const isPinned = pins.includes(text);
      return el("tr", {},
        el("td", { "data-label": "" }, el("button", { type: "button", "aria-pressed": String(isPinned), "aria-label": `Pin ${text}`, onclick: () => toggle(text) }, isPinned ? "Pinned" : "Pin")),
        el("td", { "data-label": "" }, el("code", {}, breakable(text))), cell,
        el("td", { class: rank ? "number" : "number none", "data-label": "before actions" }, rank ? `${rank.preceded} of ${rank.actions}, ${short(rank.lift)} × as often as at any time` : "–"));
    }));
    told.textContent = `${found.length} of ${series.names.length} series${found.length > MAX_ROWS ? `; the first ${MAX_ROWS} are shown` : ""}${whyNot ? `; in order of their names: ${whyNot}` : actions ? `; ranked by ${actions} ${actions === 1 ? "action" : "actions"} of the system` : ""}`;
    values();
  };
  const values = () => {
    for (const [at, cell] of cells) {
      const { metric, stat } = series.parsed[at];
      const text = inUnits(`${metric}${stat ? ` ${stat}` : ""}`, series.values[at]);
      if (cell.textContent !== text) cell.textContent = text;
    }
  };
  search.addEventListener("input", list);
  const rankAgain = async () => {
    if (document.hidden) return;
    try {
      const answer = await (await request("page/rank")).json();
      actions = answer.actions;
      whyNot = answer.why_not ?? "";
      ranks = new Map(answer.ranks.map((one) => [one.series, one]));
      list();
    } catch { /* the list stays as it is ranked; the pill says that the connection is gone */ }
  };
  setInterval(rankAgain, 60_000);
  setTimeout(rankAgain, 1500);
  drawPins();
  return { list, values };
}
