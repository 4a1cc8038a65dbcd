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
  told = []; // nothing of another plant stays
  $("result").hidden = true;
  say("");
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
  if (!told.length) return;
  const last = told[told.length - 1], unlike = last.unlike.map(said).join(", ");
  const alone = last.unlike.every((column) => last.left_out.includes(column)); // the others agree
  $("result").hidden = false;
  say(fill(words.latest, { time: last.time }));
  $("verdict").className = `verdict ${!unlike ? "good" : alone ? "fair" : "bad"}`;
  const verdict = alone ? words.left_out_now : words.unlike_now;
  $("verdict").replaceChildren(make("p", unlike ? fill(verdict, { what: unlike }) : words.like_now));
  const tiles = [[words.readings_told, last.told], [words.dropped, Object.values(last.dropped).join(" / ")]];
  showTiles(tiles);
  $("outputs").replaceChildren(...Object.keys(setup.outputs).filter((name) => name in last.outputs).map(curves));
  const alarms = told.filter((answer) => answer.unlike.length).slice(-MOST_ALARMS).reverse();
  $("alarms").replaceChildren(...alarms.map((answer) => make("li", `${answer.time}: ${answer.unlike.map(said).join(", ")}`)));
  if (!alarms.length) $("alarms").append(make("li", words.none));
}

/** Return a figure of an output over time: a line with its band for each place, dots for readings. */
function curves(name) {
  const last = told[told.length - 1], units = unit(setup.outputs[name]), [times, hours] = inHours(told.map((answer) => answer.elapsed));
  const byPlace = (answer) => (typeof answer.outputs[name] === "object" && answer.outputs[name]) || { "": answer.outputs[name] };
  const places = Object.keys(byPlace(last)).filter((place) => byPlace(last)[place] !== null);
  const lines = places.map((place) => ({
    name: `${place && `${said(place)}: `}${number(byPlace(last)[place])}${units}`,
    values: told.map((answer) => byPlace(answer)[place]),
    dashed: [],
    dots: told.map((answer) => answer.readings[place ? `${name}.${place}` : name] ?? NaN),
  }));
  const [frame, caption] = overTime(said(name), units, times, unit(hours), lines, told.map((answer) => answer.bands[name] ?? 0));
  caption.prepend(make("strong", `${said(name)} `));
  if (last.bands[name] !== null) caption.append(make("span", `± ${number(last.bands[name], 3)}${units}`, { class: "named" }));
  return frame;
}
$("plants").addEventListener("change", () => listen($("plants").value));
begin();
