// What every page here shares: elements made of text, requests with the key, the stream of events, dialogs, theme.
"use strict";

/** An element. Strings become text, never HTML: names of models and errors come from strangers. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Replaces what `parent` holds, unless it would look the same: focus and scrolling stay where they are. */
export function show(parent, ...children) {
  const next = el("div", {}, ...children);
  const held = el("div");
  held.append(...[...parent.childNodes].map((node) => node.cloneNode(true)));
  if (held.isEqualNode(next)) return false;
  // Somebody is typing: what is in a field is not thrown away for a fresher number beside it.
  if (parent.contains(document.activeElement) && document.activeElement.tagName === "INPUT") return false;
  const focus = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  parent.replaceChildren(...next.childNodes);
  if (focus) focusOn(parent, focus);
  return true;
}

/** Moves the focus to what stands in the place of an element that was drawn anew. */
const focusOn = (parent, name) => [...parent.querySelectorAll("[data-focus]")].find((node) => node.dataset.focus === name)?.focus();

// ---------------------------------------------------------------- words, numbers and times

/** A long name that a line may end in where a reader would: behind an underscore, a comma or a bracket. */
export const breakable = (name) => name.split(/(?<=[_,{])(?=..)/).flatMap((part) => [part, el("wbr")]);
export const percent = (share) => (share === null || share === undefined ? null : `${short(share * 100)} %`);
/** How many, to the last one. */
export const count = (number) => (number === null || number === undefined ? null : number.toLocaleString("en"));
export const capital = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
/** With one full stop. */
export const sentence = (text) => text.replace(/[.;]?$/, ".");

export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

/** A value of a series in the unit that people read: seconds as ms, bytes as MiB. */
export function inUnits(metric, value) {
  if (value === null || value === undefined) return "–";
  const rate = metric.endsWith(" per_s") ? "/s" : "";
  if (metric.includes("_bytes") && !rate) return value >= 2 ** 30 ? `${short(value / 2 ** 30)} GiB` : `${short(value / 2 ** 20)} MiB`;
  if (metric.includes("_seconds") && !rate) return value < 1 ? `${short(value * 1e3)} ms` : `${short(value)} s`;
  if (metric.includes("_seconds_total")) return `${short(value)} s/s`;
  if (metric.includes("_ratio")) return `${short(value * 100)} %`;
  return `${short(value)}${rate}`;
}

export function clock(at) {
  const time = typeof at === "number" ? new Date(at * 1e3) : new Date(at);
  if (Number.isNaN(time.getTime())) return String(at);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

// ---------------------------------------------------------------- storage that may be off

export function recall(storage, name) {
  try { return storage().getItem(name); } catch { return null; }
}
export function keep(storage, name, value) {
  try { value === null ? storage().removeItem(name) : storage().setItem(name, value); } catch { /* kept until the page closes */ }
}
export const local = () => localStorage;
export const session = () => sessionStorage;

// ---------------------------------------------------------------- requests

const KEY = "edgeward.key";
let held = recall(session, KEY);
let asking = null;

async function send(path, { method = "GET", body, signal } = {}) {
  const headers = held ? { authorization: `Bearer ${held}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  return fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
}

/** A response that is good; asks for the key where one is wanted. Throws an Error with the server's words. */
export async function request(path, options = {}) {
  if (options.needsKey && !held) await askForKey("This changes something, so it needs the key.");
  let response = await send(path, options);
  while (response.status === 401) {
    const why = await words(response);
    keep(session, KEY, (held = null));
    await askForKey(why);
    response = await send(path, options);
  }
  if (!response.ok) throw new Error(await words(response));
  return response;
}

async function words(response) {
  try { return (await response.json()).error ?? `HTTP ${response.status}`; } catch { return `HTTP ${response.status}`; }
}

export function askForKey(why) {
  asking ??= dialog(
    "Key",
    [el("p", {}, why), el("p", {}, el("label", { for: "key" }, "It is kept until this tab closes."),
      el("input", { id: "key", type: "password", autocomplete: "off", required: true }))],
    "Use this key",
    () => {
      held = byId("key").value.trim();
      keep(session, KEY, held);
    },
  ).finally(() => { asking = null; });
  return asking;
}

/** A dialog that resolves when its button is pressed and rejects when it is closed. */
export function dialog(title, content, button, onYes = () => {}, kind = "main") {
  return new Promise((resolve, reject) => {
    let isYes = false;
    const before = document.activeElement?.dataset.focus;
    const box = el(
      "dialog", { "aria-labelledby": "dialog-title" },
      el("form", { method: "dialog", onsubmit: () => { isYes = true; onYes(); } },
        el("h2", { id: "dialog-title" }, title), ...content,
        el("div", { class: "row" },
          el("button", { type: "button", onclick: () => box.close() }, "Cancel"),
          el("button", { class: kind, value: "yes" }, button))),
    );
    box.addEventListener("close", () => {
      box.remove();
      // The browser goes back to the element that it left, unless that was drawn anew meanwhile.
      if (before && document.activeElement === document.body) focusOn(document, before);
      isYes ? resolve() : reject(new Error("cancelled"));
    });
    document.body.append(box);
    box.showModal();
  });
}

let fading;
/** Says something at the foot of the page for a while. */
export function tell(text, kind = "") {
  const place = byId("told");
  place.className = kind;
  place.textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { place.textContent = ""; }, 9000);
}

// ---------------------------------------------------------------- the stream

/** Calls `on[event](data)` for every event, for ever; `onLink(true | false)` when the connection comes or goes. */
export async function listen(on, onLink) {
  for (;;) {
    const stop = new AbortController();
    try {
      const response = await request("page/events", { signal: stop.signal });
      onLink(true);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        // The server says something every second; a minute of silence is a dead connection (a laptop that slept).
        const timer = setTimeout(() => stop.abort(), 60_000);
        const { done, value } = await reader.read().finally(() => clearTimeout(timer));
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const fields = Object.fromEntries(event.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
          if (fields.event in on) on[fields.event](JSON.parse(fields.data));
        }
      }
    } catch (error) {
      if (error.message === "cancelled") {  // nobody is asked twice: a click on "not connected" asks again
        onLink(false);
        await new Promise((go) => byId("link").addEventListener("click", go, { once: true }));
        continue;
      }
      if (!(error instanceof TypeError || error.name === "AbortError")) console.warn(error.message);
    }
    onLink(false);
    await new Promise((go) => setTimeout(go, 2000));
  }
}

// ---------------------------------------------------------------- theme and report

export function setUpTheme(onTheme = () => {}) {
  const button = byId("theme");
  const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`); };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    keep(local, "edgeward.theme", document.documentElement.dataset.theme);
    name();
    onTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { name(); onTheme(); });
  name();
}

export function setUpHead(onTheme) {
  setUpTheme(onTheme);
  byId("report").addEventListener("click", async () => {
    try {
      const response = await request("page/report");
      const file = /filename="([^"]+)"/.exec(response.headers.get("content-disposition"))?.[1] ?? "edgeward-report.html";
      const url = URL.createObjectURL(await response.blob());
      el("a", { href: url, download: file }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      if (error.message !== "cancelled") tell(`The report could not be made: ${error.message}`, "bad");
    }
  });
}

export function showLink(isUp) {
  const place = byId("link");
  place.className = `pill ${isUp ? "good" : "bad"}`;
  place.textContent = isUp ? "live" : "not connected";
}
