/* The live page: draws what an observer tells of a plant, reading by reading. */
const MOST = 2000, MOST_ALARMS = 8, PAUSE = 2000;
let setup = null, told = [], listening = null, plant = "", waiting = false;
const said = (name) => name.replaceAll("_", " ").replace(".", ": ");

async function begin() {
  try {
    setup = await ask("watch/setup");
  } catch (error) {
    refused(error);
    if (error.status !== 401) setTimeout(begin, PAUSE);
    return;
  }
  $("token-form").hidden = true;
  $("about").textContent = fill(words.watch_about, { model: setup.model });
  if (!setup.plants.length) say(words.no_plants);
  const there = Array.from($("plants").options, (option) => option.value);
  $("plants").append(...setup.plants.filter((name) => !there.includes(name)).map((name) => make("option", name, { value: name })));
  if (!plant && setup.plants.length) listen(new URLSearchParams(location.search).get("plant") ?? setup.plants[0]);
  setTimeout(begin, PAUSE);
}

/** Take what is told of a plant as it comes; ask again whenever that ends. */
async function listen(name) {
  listening?.abort();
  const mine = (listening = new AbortController());
  $("plants").value = plant = name;
  while (!mine.signal.aborted) {
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      const answer = await fetch(`watch/events?plant=${encodeURIComponent(name)}`, { headers, signal: mine.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      told = [];
      for (let text = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        const events = (text + value).split("\n\n");
        text = events.pop();
        events.filter((event) => event.startsWith("data: ")).forEach((event) => take(JSON.parse(event.slice(6))));
      }
    } catch {
      if (!mine.signal.aborted) say(words.lost, true);
    }
    await new Promise((go) => setTimeout(go, PAUSE));
  }
}

function take(answer) {
  if (told.length && answer.elapsed <= told[told.length - 1].elapsed) told = []; // another run
  told.push(answer);
  told.splice(0, told.length - MOST);
  if (!waiting) requestAnimationFrame(draw);
  waiting = true;
}

function draw() {
  waiting = false;
  const last = told[told.length - 1], unlike = last.unlike.map(said).join(", ");
  $("result").hidden = false;
  say(fill(words.latest, { time: last.time }));
  $("verdict").className = `verdict ${unlike ? "bad" : "good"}`;
  $("verdict").replaceChildren(make("p", unlike ? fill(words.unlike_now, { what: unlike }) : words.like_now));
  const tiles = [[words.readings_told, last.told], [words.dropped, Object.values(last.dropped).join(" / ")]];
  $("tiles").replaceChildren(...tiles.map(([term, text]) => {
    const tile = make("div");
    tile.append(make("dt", term), make("dd", text));
    return tile;
  }));
  $("outputs").replaceChildren(...Object.keys(setup.outputs).filter((name) => name in last.outputs).map(curves));
  const alarms = told.filter((answer) => answer.unlike.length).slice(-MOST_ALARMS).reverse();
  $("alarms").replaceChildren(...alarms.map((answer) => make("li", `${answer.time}: ${answer.unlike.map(said).join(", ")}`)));
  if (!alarms.length) $("alarms").append(make("li", words.none));
}

/** Return a figure of an output over time: a line with its band for each place, dots for readings. */
function curves(name) {
  const frame = make("figure"), caption = make("figcaption"), last = told[told.length - 1], units = unit(setup.outputs[name]);
  const byPlace = (answer) => (typeof answer.outputs[name] === "object" && answer.outputs[name]) || { "": answer.outputs[name] };
  const places = Object.keys(byPlace(last)).filter((place) => byPlace(last)[place] !== null);
  const bands = told.map((answer) => answer.bands[name] ?? 0), times = told.map((answer) => answer.elapsed);
  const lines = places.map((place) => told.map((answer) => byPlace(answer)[place]));
  const dots = places.map((place) => told.map((answer) => answer.readings[place ? `${name}.${place}` : name] ?? NaN));
  const all = [...lines.flatMap((line) => line.flatMap((v, k) => [v - bands[k], v + bands[k]])), ...dots.flat()].filter(Number.isFinite);
  const low = all.reduce((a, b) => Math.min(a, b), Infinity), high = all.reduce((a, b) => Math.max(a, b), -Infinity);
  const canvas = make("canvas", "", { role: "img", "aria-label": `${said(name)}: ${number(low)} – ${number(high)}${units}` });
  const context = canvas.getContext("2d"), width = (canvas.width = 720), height = (canvas.height = 300), pad = 8;
  const x = (k) => pad + ((times[k] - times[0]) / (times[times.length - 1] - times[0] || 1)) * (width - 2 * pad);
  const y = (v) => height - pad - ((v - low) / (high - low || 1)) * (height - 2 * pad);
  caption.append(make("strong", `${said(name)} `));
  lines.forEach((line, n) => {
    context.strokeStyle = context.fillStyle = MANY[n % MANY.length];
    context.lineWidth = 3;
    context.globalAlpha = 0.15;
    context.beginPath();
    line.forEach((v, k) => context.lineTo(x(k), y(v + bands[k])));
    for (let k = line.length - 1; k >= 0; k--) context.lineTo(x(k), y(line[k] - bands[k]));
    context.fill();
    context.globalAlpha = 1;
    context.beginPath();
    line.forEach((v, k) => context.lineTo(x(k), y(v)));
    context.stroke();
    dots[n].forEach((v, k) => Number.isFinite(v) && context.fillRect(x(k) - 4, y(v) - 4, 8, 8));
    const key = make("span", "", { class: "key" }), named = make("span", "", { class: "named" });
    key.style.borderColor = MANY[n % MANY.length];
    named.append(key, `${places[n] && `${said(places[n])}: `}${number(line[line.length - 1])}${units}`);
    caption.append(named, " ");
  });
  if (last.bands[name] !== null) caption.append(make("span", `± ${number(last.bands[name], 3)}${units}`, { class: "named" }));
  const row = make("div", "", { class: "ends" }), hours = times[times.length - 1] >= 7200;
  const at = (k) => (hours ? `${number(times[k] / 3600)} h` : `${number(times[k])} s`);
  row.append(make("span", at(0)), make("span", fill(words.vertical, { low: number(low), high: number(high), units })), make("span", at(times.length - 1)));
  frame.append(caption, canvas, row);
  return frame;
}
$("plants").addEventListener("change", () => listen($("plants").value));
begin();
