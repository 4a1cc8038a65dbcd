"use strict";
/* What the pages share: words, numbers, elements, asking their own service. */
const words = JSON.parse(document.getElementById("words").textContent);
const $ = (id) => document.getElementById(id);
let token = "";
const MANY = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/* Words and numbers */
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
const called = (label) => words.names[label] ?? label;
const unit = (units) => (units === "1" ? "" : ` ${units}`);
function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return words.none;
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 2) : String(Number(value.toPrecision(digits)));
}
const percent = (value) => (Number.isFinite(value) && value !== null ? `${number(100 * value, 3)} %` : words.none);
function duration(seconds) {
  return seconds < 1 ? `${number(1000 * seconds, 3)} ms` : `${number(seconds, 3)} s`;
}
function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}
function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
function showTiles(tiles) {
  $("tiles").replaceChildren(...tiles.map(([term, text]) => {
    const tile = make("div");
    tile.append(make("dt", term), make("dd", text));
    return tile;
  }));
}

/* Asking */
async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = body === undefined ? { headers } : {
    method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (answer.ok) return content;
  const error = new Error(content.message);
  error.status = answer.status;
  throw error;
}

/** Say why nothing is shown, or ask for the token. */
function refused(error) {
  if (error.status === 401) {
    $("about").textContent = "";
    $("token-form").hidden = false;
    if (token) say(fill(words.failed, { why: error.message }), true);
    $("token").focus();
  } else {
    say(fill(words.failed, { why: error.message }), true);
  }
}
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  begin();
});

/* Lines over time */
function inHours(times) {
  return times[times.length - 1] >= 7200 ? [times.map((t) => t / 3600), "h"] : [times, "s"];
}
/** Return a figure and its caption: lines with a band of this reach, dashes and dots beside them; what is given is held. */
function overTime(title, units, times, timeUnits, lines, reach, held = false) {
  const frame = make("figure"), caption = make("figcaption");
  const all = lines.flatMap(({ values, dashed, dots }) => [...values.flatMap((v, k) => [v - reach[k], v + reach[k]]), ...dashed, ...dots]).filter(Number.isFinite);
  const low = all.reduce((a, b) => Math.min(a, b), Infinity), high = all.reduce((a, b) => Math.max(a, b), -Infinity);
  const canvas = make("canvas", "", { role: "img", "aria-label": `${title}: ${number(low)} – ${number(high)}${units}` });
  const context = canvas.getContext("2d"), width = (canvas.width = 720), height = (canvas.height = 300), pad = 8, last = times.length - 1;
  const x = (k) => pad + ((times[k] - times[0]) / (times[last] - times[0] || 1)) * (width - 2 * pad);
  const y = (v) => height - pad - ((v - low) / (high - low || 1)) * (height - 2 * pad);
  const trace = (values, dashes) => {
    context.setLineDash(dashes);
    context.beginPath();
    values.forEach((v, k) => {
      if (held && k) context.lineTo(x(k), y(values[k - 1]));
      k ? context.lineTo(x(k), y(v)) : context.moveTo(x(k), y(v));
    });
    context.stroke();
  };
  lines.forEach(({ name, values, dashed, dots }, n) => {
    context.strokeStyle = context.fillStyle = MANY[n % MANY.length];
    context.lineWidth = 3;
    if (reach.some((r) => r > 0)) {
      context.globalAlpha = 0.15;
      context.beginPath();
      values.forEach((v, k) => context.lineTo(x(k), y(v + reach[k])));
      for (let k = values.length - 1; k >= 0; k--) context.lineTo(x(k), y(values[k] - reach[k]));
      context.fill();
      context.globalAlpha = 1;
    }
    trace(values, []);
    trace(dashed, [9, 7]);
    dots.forEach((v, k) => Number.isFinite(v) && context.fillRect(x(k) - 4, y(v) - 4, 8, 8));
    const key = make("span", "", { class: "key" }), named = make("span", "", { class: "named" });
    key.style.borderColor = MANY[n % MANY.length];
    named.append(key, name);
    caption.append(named, " ");
  });
  const row = make("div", "", { class: "ends" }), at = (t) => make("span", `${number(t)}${timeUnits}`);
  row.append(at(times[0]), make("span", fill(words.vertical, { low: number(low), high: number(high), units })), at(times[last]));
  frame.append(caption, canvas, row);
  return [frame, caption];
}
