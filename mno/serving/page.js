/* The page for trying a model: asks its own service, and draws what comes back. */
const VIRIDIS = "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e21918c1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83eaddc30c2df23d8e219ece51bfde725";
const MAGMA = "0000040303120a0822130d341d114729115a36106b440f7651127c5d177f6a1c81762181832681902a819c2e7faa337db73779c43c75d0416fdc4869e75263ef5d5ef56b5cf9795dfc8961fd9869fea772feb67cfec488fed395fde2a3fcf0b2fcfdbf";
const MISSING = [128, 128, 128];

let setup = null, turn = 0;
let now = null; // what is shown: {answer, truth, from, solverSeconds, missing}

async function begin() {
  try {
    setup = await ask("try/setup");
  } catch (error) {
    refused(error);
    return;
  }
  $("token-form").hidden = true;
  const list = (names) => {
    const said = names.map((name) => called(setup.labels?.[name] ?? name)), most = 6;
    const first = (said.length > most ? said.slice(0, most - 1) : said).join(words.lang === "ja" ? "、" : ", ");
    return said.length > most ? fill(words.more, { first, count: said.length - most + 1 }) : first;
  };
  $("about").textContent = fill(words.about, { model: setup.model, inputs: list(setup.inputs), outputs: list(setup.outputs) });
  const draws = !setup.no_solver;
  $("from-sample").hidden = !setup.samples;
  $("from-seed").hidden = !draws;
  const limits = [];
  if (!setup.samples) limits.push(fill(words.no_samples, { why: setup.no_samples }));
  if (!draws) limits.push(fill(words.no_solver, { why: setup.no_solver }));
  $("limits").textContent = limits.join(" ");
  $("controls").hidden = false;
  if (!setup.samples && !draws) {
    say(words.nothing, true);
    document.querySelector("fieldset").hidden = true;
    return;
  }
  $("sample").max = setup.samples - 1;
  document.querySelector(`input[value=${setup.samples ? "sample" : "seed"}]`).checked = true;
  setup.parameters.forEach(addParameter);
  changed();
}

function addParameter(parameter) {
  const row = make("div", "", { class: "parameter" });
  const id = `parameter-${parameter.name}`;
  const label = make("label", parameter.name.replaceAll("_", " "), { for: id, title: parameter.description });
  const step = parameter.whole ? 1 : (parameter.most - parameter.least) / 200;
  const range = make("input", "", {
    type: "range", min: parameter.least, max: parameter.most, step, "aria-label": parameter.name.replaceAll("_", " "),
  });
  const exact = make("input", "", { type: "number", id, step: parameter.whole ? 1 : "any", "data-name": parameter.name });
  range.value = exact.value = parameter.value;
  range.addEventListener("input", () => { exact.value = number(Number(range.value)); });
  range.addEventListener("change", changed);
  exact.addEventListener("change", () => { range.value = exact.value; changed(); });
  row.append(label, range, exact);
  $("parameters").append(row);
}

function wanted() {
  if (document.querySelector("input[name=source]:checked").value === "sample") {
    return { sample: Math.max(0, Math.min(setup.samples - 1, Math.floor(Number($("sample").value) || 0))) };
  }
  const parameters = {};
  for (const parameter of setup.parameters) {
    const value = Number($(`parameter-${parameter.name}`).value);
    if (value !== parameter.value && Number.isFinite(value)) parameters[parameter.name] = value;
  }
  return { seed: Math.max(0, Math.floor(Number($("seed").value) || 0)), parameters };
}

async function changed() {
  const mine = ++turn, body = wanted();
  $("sample-part").hidden = body.sample === undefined;
  $("seed-part").hidden = $("parameters-part").hidden = body.sample !== undefined;
  say(words.asking);
  try {
    const answer = await ask("try/ask", body);
    if (mine !== turn) return;
    now = { answer, truth: answer.truth, from: "truth", solverSeconds: null };
    show();
  } catch (error) {
    if (mine === turn) { $("result").hidden = true; say(fill(words.failed, { why: error.message }), true); }
    return;
  }
  if (setup.no_solver) { say(words.done); return; }
  say(words.solving);
  try {
    const solved = await ask("try/solve", body);
    if (mine !== turn) return;
    Object.assign(now, { truth: solved.outputs, from: "solver", solverSeconds: solved.seconds });
    show();
    say(words.done);
  } catch (error) {
    if (mine === turn) say(fill(words.no_solution, { why: error.message }), true);
  }
}

/* Fields */
function decoded(field) {
  if (!field.values) {
    const bytes = Uint8Array.from(atob(field.data), (character) => character.charCodeAt(0));
    field.values = new Float32Array(bytes.buffer);
  }
  return field.values;
}
const frames = (field) => (field.shape.length > field.space.length ? field.shape[0] : 0);
/** Return the values of a frame of a field and its shape, of three axes one cut along the last. */
function part(field, chosen = Number($("frame").value)) {
  let shape = field.shape, values = decoded(field);
  if (frames(field)) {
    const size = shape.slice(1).reduce((a, b) => a * b, 1);
    const frame = Math.min(chosen, shape[0] - 1);
    values = values.subarray(frame * size, (frame + 1) * size);
    shape = shape.slice(1);
  }
  if (field.space.length === 3) {
    const [nx, ny, nz] = shape, z = Math.min(Number($("slice").value), nz - 1);
    values = Float32Array.from({ length: nx * ny }, (_, i) => values[i * nz + z]);
    shape = [nx, ny];
  }
  return { values, shape };
}

function colour(map, share) {
  if (!Number.isFinite(share)) return MISSING;
  const at = Math.max(0, Math.min(1, share)) * 32, low = Math.min(31, Math.floor(at)), rest = at - low;
  return [0, 2, 4].map((k) => {
    const [a, b] = [low, low + 1].map((i) => parseInt(map.substr(6 * i + k, 2), 16));
    return Math.round(a + rest * (b - a));
  });
}

function drawPlane(canvas, { values, shape }, low, high, map) {
  const [nx, ny] = shape, picture = new ImageData(nx, ny), span = high - low || 1;
  for (let i = 0; i < nx; i++) {
    for (let j = 0; j < ny; j++) {
      const at = 4 * ((ny - 1 - j) * nx + i);
      picture.data.set([...colour(map, (values[i * ny + j] - low) / span), 255], at);
    }
  }
  canvas.width = nx;
  canvas.height = ny;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  const [width, height] = setup.extent;
  canvas.style.aspectRatio = `${width} / ${height}`;
  canvas.style.imageRendering = "pixelated";
}

function drawPoints(canvas, { values }, low, high, map) {
  const places = setup.space[0] === "point" ? now.answer.inputs.filter((f) => f.coordinate).map(decoded) : [];
  const [xs, ys] = places, size = 480, context = canvas.getContext("2d");
  const bounds = (a) => a.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
  const [x0, x1] = bounds(xs), [y0, y1] = bounds(ys ?? xs), span = Math.max(x1 - x0, y1 - y0) || 1;
  canvas.width = canvas.height = size;
  const radius = Math.max(2, Math.min(9, (0.55 * size) / Math.sqrt(xs.length)));
  for (let k = 0; k < values.length; k++) {
    const [r, g, b] = colour(map, (values[k] - low) / (high - low || 1));
    context.fillStyle = `rgb(${r},${g},${b})`;
    context.beginPath();
    const x = radius + ((xs[k] - x0) / span) * (size - 2 * radius);
    const y = size - radius - (((ys ?? xs)[k] - y0) / span) * (size - 2 * radius);
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }
}

/** Draw lines over one axis, `band` to either side of the first; return the vertical limits. */
function drawLines(canvas, lines, low, high, band) {
  const style = getComputedStyle(document.documentElement), width = 720, height = 300, pad = 8;
  const context = canvas.getContext("2d");
  canvas.width = width;
  canvas.height = height;
  const reach = band && Number.isFinite(band) && band < 4 * (high - low) ? band : 0;
  const bottom = low - reach, top = high + reach;
  const n = lines[0].values.length;
  const x = (i) => pad + (i / Math.max(n - 1, 1)) * (width - 2 * pad);
  const y = (v) => height - pad - ((v - bottom) / (top - bottom || 1)) * (height - 2 * pad);
  if (reach) {
    context.globalAlpha = 0.18;
    context.fillStyle = style.getPropertyValue("--first");
    context.beginPath();
    lines[0].values.forEach((v, i) => context.lineTo(x(i), y(v + reach)));
    for (let i = n - 1; i >= 0; i--) context.lineTo(x(i), y(lines[0].values[i] - reach));
    context.fill();
    context.globalAlpha = 1;
  }
  lines.forEach(({ values }, k) => {
    context.strokeStyle = style.getPropertyValue(k ? "--second" : "--first");
    context.lineWidth = 3;
    context.setLineDash(k ? [9, 7] : []);
    context.beginPath();
    let open = false;
    values.forEach((v, i) => {
      if (!Number.isFinite(v)) { open = false; return; }
      open ? context.lineTo(x(i), y(v)) : context.moveTo(x(i), y(v));
      open = true;
    });
    context.stroke();
  });
  return [bottom, top];
}

function drawBar(canvas, map) {
  canvas.width = 128;
  canvas.height = 1;
  const picture = new ImageData(128, 1);
  for (let i = 0; i < 128; i++) picture.data.set([...colour(map, i / 127), 255], 4 * i);
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function range(fields) {
  const known = fields.filter((field) => field && field.lowest !== null);
  return [Math.min(...known.map((f) => f.lowest)), Math.max(...known.map((f) => f.highest))];
}

/** Return a figure of a field: colours and their bar, or a line with its ends. */
function figure(title, field, low, high, map = VIRIDIS) {
  const frame = make("figure");
  const label = `${title}: ${number(low)} – ${number(high)}${unit(field.units)}`;
  const canvas = make("canvas", "", { role: "img", "aria-label": label });
  frame.append(make("figcaption", title), canvas);
  if (field.space.length === 1 && field.space[0] !== "point") {
    frame.append(axisEnds(drawLines(canvas, [part(field)], low, high), field.units));
    return frame;
  }
  (field.space[0] === "point" ? drawPoints : drawPlane)(canvas, part(field), low, high, map);
  const bar = make("canvas", "", { class: "bar", "aria-hidden": "true" });
  drawBar(bar, map);
  frame.append(bar, ends(low, high, field.units));
  return frame;
}
function ends(low, high, units) {
  const row = make("div", "", { class: "ends" });
  row.append(make("span", `${number(low)}${unit(units)}`), make("span", `${number(high)}${unit(units)}`));
  return row;
}
function axisEnds([bottom, top], units) {
  const row = make("div", "", { class: "ends" }), axis = setup.space[0];
  const vertical = fill(words.vertical, { low: number(bottom), high: number(top), units: unit(units) });
  row.append(make("span", `${axis} = 0`), make("span", vertical), make("span", `${axis} = ${number(setup.extent[0])}`));
  return row;
}

/* Readings: points that stand for zones, pieces and the like, each a line over time */
const isReading = (field) => field.name in setup.readings;
/** Return what the places are called that a field says something of, and their numbers. */
function placesOf(field) {
  const [axis, first, last] = setup.readings[field.name], found = [], labels = setup.axes.find((a) => a.name === "point")?.labels;
  for (let place = first; place < last; place++) {
    const label = labels?.[place]?.replaceAll("_", " ") || String(place - first + 1);
    if (curve(field, place).some(Number.isFinite)) found.push({ place, name: axis ? `${called(axis)} ${label}` : words.whole });
  }
  return found;
}
function curve(field, place) {
  const values = decoded(field), points = field.shape[field.shape.length - 1];
  return Array.from({ length: values.length / points }, (_, k) => values[k * points + place]);
}
/** Return the times of a field's frames, of which the first belongs to frame `begin`, and their unit. */
function timesOf(field, begin) {
  const units = setup.axes.find((axis) => axis.name === "time")?.units ?? "1";
  const times = Array.from({ length: frames(field) }, (_, k) => setup.interval * (begin + k * field.every));
  return units === "s" ? inHours(times) : [times, units];
}
/** Return a figure of a field's lines over time; dashed beside them what is compared, and a band. */
function curves(field, other, beside) {
  const [times, units] = timesOf(field, setup.outputs.includes(field.name) ? setup.history : 0);
  const bounds = now.answer.trust?.bounds?.[field.name]?.max_error?.[0];
  const reach = other !== null && Array.isArray(bounds) ? times.map((_, k) => bounds[k * field.every] ?? 0) : times.map(() => 0);
  const lines = placesOf(field).map(({ place, name }) => ({ name, values: curve(field, place), dashed: other ? curve(other, place) : [], dots: [] }));
  const [frame, caption] = overTime(called(field.label), unit(field.units), times, unit(units), lines, reach, other === null);
  if (other) caption.append(make("span", fill(words.dashed, { beside }), { class: "quiet" }));
  return frame;
}
/** Return tables of the numbers at the start: a row for each field, a column for each place. */
function numbers(fields) {
  const byAxis = new Map();
  for (const field of fields) {
    const axis = setup.readings[field.name][0];
    byAxis.set(axis, [...(byAxis.get(axis) ?? []), field]);
  }
  return [...byAxis].map(([axis, some]) => {
    const said = axis ? called(axis) : words.whole, places = placesOf(some[0]);
    const holder = make("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": said });
    const table = make("table"), top = make("thead"), body = make("tbody"), head = make("tr");
    for (const title of [words.quantity, ...places.map((place) => place.name)]) head.append(make("th", title, { scope: "col" }));
    top.append(head);
    for (const field of some) {
      const row = make("tr"), values = places.map(({ place }) => curve(field, place).pop());
      row.append(make("th", called(field.label), { scope: "row" }), ...values.map((v) => make("td", `${number(v)}${unit(field.units)}`)));
      body.append(row);
    }
    table.append(top, body);
    holder.append(table);
    return holder;
  });
}

/* Errors */
function compared(predicted, truth) {
  const p = decoded(predicted), t = decoded(truth), values = new Float32Array(p.length);
  let squares = 0, size = 0, largest = 0;
  for (let k = 0; k < p.length; k++) {
    values[k] = Math.abs(p[k] - t[k]);
    if (!Number.isFinite(values[k])) continue;
    squares += values[k] ** 2;
    size += t[k] ** 2;
    largest = Math.max(largest, values[k]);
  }
  const field = { ...predicted, values, lowest: 0, highest: largest };
  return { field, relative: squares === 0 ? 0 : Math.sqrt(squares / size), largest };
}
/** Return a bound of the answer: of the frame that is shown, where each has its own. */
function bound(field, kind, frame) {
  const found = now.answer.trust?.bounds?.[field.name]?.[kind]?.[0];
  return Array.isArray(found) ? found[Math.min(frame * field.every, found.length - 1)] : found ?? null;
}

/* What is shown */
function show() {
  const { answer, truth } = now;
  const scattered = setup.space[0] === "point";
  const scalars = answer.inputs.filter((field) => !field.space.length);
  answer.inputs.forEach((field) => { field.coordinate = scattered && field.space.length && !setup.inputs.includes(field.name); });
  const most = Math.max(...answer.outputs.map(frames));
  $("frame-part").hidden = most < 2 || answer.outputs.every(isReading);
  $("frame").max = Math.max(most - 1, 0);
  const cut = answer.outputs.find((field) => field.space.length === 3);
  $("slice-part").hidden = !cut;
  if (cut) $("slice").max = cut.shape[cut.shape.length - 1] - 1;
  $("result").hidden = false;
  verdict(answer.trust, answer.no_trust);
  const tiles = [[words.by, answer.model], [words.seconds, duration(answer.seconds)]];
  if (now.solverSeconds !== null) {
    tiles.push([words.solver_seconds, duration(now.solverSeconds)], [words.faster, `${number(now.solverSeconds / answer.seconds, 3)} ×`]);
  }
  if (answer.trust) tiles.push([words.distance, number(answer.trust.training_distance[0], 3)]);
  for (const field of scalars) tiles.push([called(field.label), `${number(decoded(field)[0])}${unit(field.units)}`]);
  showTiles(tiles);
  draw();
}

function verdict(trust, why) {
  let kind = "good", text;
  if (!trust) [kind, text] = ["fair", fill(words.no_trust, { why: why.replace(/^no error estimate: /, "") })];
  else if (trust.unlike_training[0]) [kind, text] = ["bad", fill(words.unlike, { feature: trust.most_unusual[0] })];
  else if (trust.relative_l2_bound[0] === null) [kind, text] = ["fair", words.like_without];
  else text = fill(words.like, { bound: percent(trust.relative_l2_bound[0]), level: percent(trust.level) });
  const lines = [make("p", text)];
  const field = now.answer.outputs[0], here = field.shape.slice(-field.space.length);
  const coarse = here.some((length) => length >= 128); // may be drawn on fewer points than it has
  if (trust && !coarse && !now.answer.outputs.some(isReading) && String(trust.calibrated_on) !== String(here)) {
    lines.push(make("p", fill(words.elsewhere, { there: trust.calibrated_on.join(" × "), here: here.join(" × ") })));
  }
  $("verdict").className = `verdict ${kind}`;
  $("verdict").replaceChildren(...lines);
}

function draw() {
  const { answer, truth, from } = now;
  const frame = answer.outputs.every(isReading) ? Number($("frame").max) : Number($("frame").value);
  const moving = answer.outputs.find((field) => frames(field));
  if (moving) {
    const k = frame * moving.every;
    const time = setup.interval === null ? words.none : number(setup.interval * (setup.history + k), 4);
    $("frame-said").textContent = fill(words.frame_said, { k: k + 1, n: moving.every * (frames(moving) - 1) + 1, time });
  }
  $("slice-said").textContent = fill(words.slice_said, { k: Number($("slice").value) + 1, n: Number($("slice").max) + 1 });
  document.querySelector("label[for=slice]").textContent = fill(words.slice, { axis: setup.space[2] ?? "" });
  $("outputs").className = answer.outputs.every(isReading) ? "fields wide" : "";
  $("outputs").replaceChildren(...answer.outputs.flatMap((field) => output(field, truth?.find((t) => t.name === field.name), words[from], frame)));
  const given = answer.inputs.filter((field) => field.space.length && !field.coordinate);
  const told = given.filter(isReading), placed = given.filter((field) => !isReading(field));
  const lines = setup.space.length === 1 && setup.space[0] !== "point";
  const figures = make("div", "", { class: lines ? "fields wide" : "fields" }), panels = make("div", "", { class: "fields wide" });
  figures.append(...placed.map((field) => figure(called(field.label), field, ...range([field]))));
  panels.append(...told.filter((field) => frames(field) > 1).map((field) => titled(field, curves(field, null, ""))));
  $("inputs").replaceChildren(figures, panels, ...numbers(told.filter((field) => frames(field) < 2)));
}

function titled(field, frame) {
  frame.prepend(make("p", called(field.label)));
  return frame;
}

/** Return what is shown of one predicted field: itself, the truth, the difference, the errors. */
function output(field, truth, beside, frame) {
  const name = called(field.label), [low, high] = range([field, truth]);
  const line = field.space.length === 1 && field.space[0] !== "point";
  const fields = make("div", "", { class: line ? "fields wide" : "fields" });
  const difference = truth ? compared(field, truth) : null;
  if (isReading(field)) {
    fields.className = "fields wide";
    fields.append(curves(field, truth ?? undefined, beside));
    const section = make("section");
    section.append(make("h2", name), fields, errors(field, difference, frame));
    return [section];
  }
  if (line) {
    const frameOf = make("figure"), caption = make("figcaption");
    const canvas = make("canvas", "", { role: "img", "aria-label": `${name}: ${number(low)} – ${number(high)}${unit(field.units)}` });
    caption.append(make("span", "", { class: "key first" }), `${words.prediction} `);
    if (truth) caption.append(make("span", "", { class: "key second" }), beside);
    const lines = truth ? [part(field), part(truth)] : [part(field)];
    const limits = drawLines(canvas, lines, low, high, bound(field, "max_error", frame));
    frameOf.append(caption, canvas, axisEnds(limits, field.units));
    fields.append(frameOf);
  } else {
    fields.append(figure(words.prediction, field, low, high));
    if (truth) fields.append(figure(beside, truth, low, high));
  }
  if (difference) fields.append(figure(words.difference, difference.field, 0, difference.largest, MAGMA));
  return [make("h2", name), fields, errors(field, difference, frame)];
}

function errors(field, difference, frame) {
  const holder = make("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${called(field.label)}: ${words.actual}` }), table = make("table");
  const head = make("tr"), timed = frames(field) > 0;
  for (const title of [words.quantity, words.bound, words.actual]) head.append(make("th", title, { scope: "col" }));
  const top = make("thead"), body = make("tbody");
  top.append(head);
  const largest = !difference || field.thinned ? null : timed ? peak(part(difference.field, frame).values) : difference.largest;
  const what = isReading(field) ? words.largest_at_end : words.largest;
  const rows = [
    [words.relative, bound(field, "relative_l2", frame), difference?.relative ?? null, percent],
    [fill(what, { units: unit(field.units) }).replace(/,? *$/, ""), bound(field, "max_error", frame), largest, number],
  ];
  for (const [title, limit, actual, text] of rows) {
    const row = make("tr"), known = actual !== null && limit !== null && !field.thinned;
    const verdictOf = known ? ` (${actual <= limit ? words.within : words.beyond})` : "";
    row.append(make("th", title, { scope: "row" }), make("td", text(limit)), make("td", actual === null ? "–" : text(actual) + verdictOf));
    body.append(row);
  }
  table.append(top, body);
  holder.append(table);
  return holder;
}
const peak = (values) => values.reduce((a, b) => (Number.isFinite(b) ? Math.max(a, b) : a), 0);

/* Events */
$("controls").addEventListener("submit", (event) => event.preventDefault());
for (const input of document.querySelectorAll("input[name=source], #sample, #seed")) input.addEventListener("change", changed);
$("another").addEventListener("click", () => {
  if (wanted().sample === undefined) $("seed").value = Number($("seed").value) + 1;
  else $("sample").value = (Number($("sample").value) + 1) % setup.samples;
  changed();
});
for (const id of ["frame", "slice"]) $(id).addEventListener("input", () => now && draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => now && draw());
begin();
