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
