"use strict";
// Everything shown comes over one stream (Server-Sent Events, read by fetch so that a token can go along). Texts of
// clients and logs are only ever put in as text.

const KEPT = 600;          // seconds of history
const GAP = 3;             // seconds without a figure after which a line is broken
const SLOW = 5000;         // milliseconds of a request
const STILL = 30000;       // milliseconds without a sign of life
const base = location.pathname.replace(/\/+$/, "");
const $ = (id) => document.getElementById(id);

let points = [];
let state = {};
let entries = [];          // warnings and events, the newest first
let span = 120;
let cross = null;          // a time that is pointed at
let token = sessionStorage.getItem("oxicorn-token") || "";
let heard = 0;
let known = null;          // counters of the last point, for events
let wantedStacks = null;

// Words and numbers.

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
function rate(value) { return value == null ? "–" : value < 10 ? String(Math.round(value * 10) / 10) : grouped.format(value); }
function count(value) { return value == null ? "–" : grouped.format(value); }
function millis(value) {
  if (value == null) return "–";
  if (value < 10) return `${Math.round(value * 100) / 100} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60000) return `${Math.round(value / 100) / 10} s`;
  return duration(value / 1000);
}
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const at = parts.findIndex(([size]) => whole >= size);
  if (at < 0) return "0s";
  const shown = parts.slice(at, at + 2).map(([size, unit], place) =>
    `${Math.floor(place ? (whole % parts[at][0]) / size : whole / size)}${unit}`);
  return shown.filter((text, place) => !place || !text.startsWith("0")).join(" ");
}
function bytes(value) { return value == null ? "–" : `${(value / 1048576).toFixed(value < 104857600 ? 1 : 0)} MiB`; }
function clock(seconds, withSeconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hour12: false };
  if (withSeconds) options.second = "2-digit";
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", options);
}

// The stream.

function headers() { return token ? { Authorization: `Bearer ${token}` } : {}; }

function show(name, text) {
  $("status").dataset.state = name;
  if ($("status").textContent !== text) $("status").textContent = text;
}

async function watch() {
  for (let failures = 0; ;) {
    try {
      const response = await fetch(`${base}/stream`, { headers: headers(), cache: "no-store" });
      if (response.status === 401) { askForToken(); return; }
      if (!response.ok) throw new Error((await response.text()).trim());
      $("login").hidden = true;
      $("content").hidden = false;
      if (token) sessionStorage.setItem("oxicorn-token", token);
      failures = 0;
      await read(response.body.getReader());
      show("lost", "the server has gone; trying again");
    } catch (error) {
      const reason = error instanceof TypeError ? "not reached" : error.message;
      show("lost", `${reason}; trying again`);
    }
    failures += 1;
    await new Promise((done) => setTimeout(done, Math.min(500 * 2 ** failures, 8000)));
  }
}

async function read(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const messages = text.split("\n\n");
    text = messages.pop();
    messages.forEach(take);
    heard = Date.now();
    show("live", "live");
    requestAnimationFrame(draw);
  }
}

function take(message) {
  const found = /^event: (\w+)\ndata: (.*)$/s.exec(message);
  if (!found) return;
  const data = JSON.parse(found[2]);
  if (found[1] === "points") takePoints(data);
  else if (found[1] === "state") state = data;
  else if (found[1] === "log") data.forEach((line) => enter(line));
}

function takePoints(fresh) {
  for (const point of fresh) {
    const last = points.at(-1);
    if (last && point.time <= last.time) continue;
    point.marks = marksOf(point);
    points.push(point);
  }
  points = points.slice(-KEPT);
}

// What changed between two points, as marks on the time axis and entries below.
function marksOf(point) {
  const marks = [];
  const before = known;
  known = point;
  if (!before) return marks;
  const mark = (tone, flag, text) => {
    marks.push({ tone, flag });
    enter({ time: point.time, level: "event", text });
  };
  const restarted = point.gateways < before.gateways || point.spawned < before.spawned;
  if (restarted) mark("good", "start", "The server was started again");
  else {
    if (point.reloads_failed > before.reloads_failed) mark("bad", "reload failed", "A reload was refused or given up");
    if (point.generation !== before.generation && before.generation) {
      mark("good", "reload", `Generation ${point.generation} serves`);
    }
    if (point.gateways > before.gateways) mark("bad", "gateway", "The gateway was started again");
    if (point.died > before.died) {
      const number = point.died - before.died;
      mark("bad", number > 1 ? `${number} died` : "worker died", number > 1 ? `${number} workers died` : "A worker died");
    } else if (point.spawned > before.spawned && point.generation === before.generation && point.reloads === before.reloads) {
      const number = point.spawned - before.spawned;
      mark("", number > 1 ? `${number} workers` : "worker", number > 1 ? `${number} workers were started` : "A worker was started");
    }
  }
  return marks;
}

function enter(entry) {
  if (entry.number && entries.some((other) => other.number === entry.number && other.time === entry.time)) return;
  entries.push(entry);
  entries.sort((one, other) => other.time - one.time);
  entries = entries.slice(0, 200);
  entries.changed = true;
}

// Drawing.

function draw() {
  if (!points.length && !state.version) return;
  drawHead();
  drawTiles();
  for (const chart of charts) chart.draw();
  drawRequests();
  drawWorkers();
  drawHeavy();
  if (entries.changed) drawLog();
}

function drawHead() {
  if (!state.version) return;
  const up = duration(Date.now() / 1000 - state.started);
  const parts = [state.version, `up ${up}`, `generation ${state.generation}`, `arbiter ${state.arbiter.pid}`];
  if (state.stopping) parts.push("stopping");
  $("meta").textContent = parts.join(" · ");
  $("reload").hidden = !state.orders;
}

const tiles = [
  ["Requests per second", (now) => ({ value: rate(now.responses), note: `${count(now.connections)} connections` })],
  ["Latency, 95th percentile", (now) => ({ value: millis(now.p95), note: `median ${millis(now.p50)}` })],
  ["Errors per second", (now) => ({
    value: rate(now.errors + now.refused), note: `${rate(now.errors)} failed · ${rate(now.refused)} refused`,
    tone: now.errors + now.refused > 0 ? "bad" : "" })],
  ["Waiting in the queue", (now) => ({ value: count(now.queued), note: `wait ${millis(now.wait)}`, tone: now.queued > 0 ? "warn" : "" })],
  ["Capacity in use", (now) => ({
    value: count(now.busy), of: count(now.capacity), meter: now.capacity ? now.busy / now.capacity : 0,
    tone: now.capacity && now.busy >= now.capacity ? "warn" : "" })],
  ["Workers serving", (now) => ({
    value: count(now.workers), of: state.wanted == null ? null : count(state.wanted), note: memoryNote(),
    tone: now.workers === 0 ? "bad" : state.wanted > now.workers ? "warn" : "" })],
];

function memoryNote() {
  const sum = (state.workers || []).reduce((all, worker) => all + (worker.rss || 0), 0);
  return sum ? `${bytes(sum)} together` : "";
}

function drawTiles() {
  const now = points.at(-1);
  if (!now) return;
  const list = $("tiles");
  while (list.children.length < tiles.length) {
    list.append(make("li", { class: "tile" }, make("div", { class: "name" }), make("div", { class: "value" }), make("div", { class: "note" })));
  }
  tiles.forEach(([name, figures], place) => {
    const tile = list.children[place];
    const [title, value, note] = tile.children;
    const shown = figures(now);
    tile.dataset.tone = shown.tone || "";
    title.textContent = name;
    value.replaceChildren(shown.value, ...(shown.of == null ? [] : [make("small", {}, ` of ${shown.of}`)]));
    if (shown.meter != null) {
      const meter = note.firstElementChild || make("meter", { min: 0, max: 1, high: .9, optimum: 0, "aria-label": name });
      meter.value = shown.meter;
      if (!meter.parentNode) note.append(meter);
    } else note.textContent = shown.note;
  });
}

const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text != null) element.textContent = text;
  return element;
}
// The top of an axis; of whole things its half is a whole number, too.
function niceTop(value, whole) {
  const size = 10 ** Math.floor(Math.log10(Math.max(value, whole ? 2 : 1e-9)));
  const steps = whole ? [2, 4, 6, 8, 10] : [1, 2, 4, 5, 6, 8, 10];
  return value > 0 || whole ? steps.map((step) => step * size).find((top) => top >= value) : 1;
}

class Chart {
  constructor(figure, title, format, series) {
    Object.assign(this, { title, format, series });
    this.when = make("span", { class: "when" });
    this.values = series.map(([, name, color]) => {
      const value = make("b");
      return { value, item: make("span", { class: `c${color}` }, make("i"), `${name} `, value) };
    });
    this.plot = shape("svg", { class: "plot", role: "img", tabindex: "0" });
    figure.append(
      make("figcaption", {}, make("strong", {}, title), this.when,
        make("span", { class: "legend" }, ...this.values.map(({ item }) => item))),
      this.plot);
    this.plot.addEventListener("pointermove", (event) => this.pointAt(event.offsetX));
    this.plot.addEventListener("pointerleave", () => point(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => point(null));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  get end() { return points.length ? points.at(-1).time : Date.now() / 1000; }

  pointAt(x) {
    const left = 44, right = this.plot.clientWidth - 6;
    point(this.end - span * (1 - Math.min(1, Math.max(0, (x - left) / (right - left)))));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (step) point(Math.min(this.end, Math.max(this.end - span, (cross ?? this.end) + step * (span / 120))));
    else if (event.key === "Home") point(this.end - span);
    else if (event.key === "End" || event.key === "Escape") point(null);
    else return;
    event.preventDefault();
  }

  draw() {
    const width = this.plot.clientWidth, height = this.plot.clientHeight;
    if (!width || !points.length) return;
    const left = 44, right = width - 6, top = 28, bottom = height - 18;
    const end = this.end, start = end - span;
    const seen = points.filter((one) => one.time >= start - 2);
    const values = seen.flatMap((one) => this.series.map(([key]) => one[key] ?? 0));
    const highest = niceTop(Math.max(0, ...values), this.format === count);
    const x = (time) => left + (right - left) * (time - start) / span;
    const y = (value) => bottom - (bottom - top) * Math.min(1, value / highest);
    const parts = [];
    for (const part of [0, .5, 1]) {
      const at = Math.round(y(part * highest)) + .5;
      parts.push(shape("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
      parts.push(shape("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, this.format(part * highest)));
    }
    const step = span > 300 ? (width > 400 ? 120 : 300) : (width > 330 ? 30 : 60);
    for (let time = Math.ceil(start / step) * step; time < end; time += step) {
      const at = x(time);
      if (at < left + 18 || at > right - 18) continue;
      parts.push(shape("text", { x: at, y: height - 4, "text-anchor": "middle" }, clock(time, step < 60)));
    }
    parts.push(...this.marks(seen, x, left, right, top, bottom));
    for (const [key, , color, area] of this.series) {
      for (const run of runs(seen, key, start)) {
        const path = run.map((one, place) => `${place ? "L" : "M"}${x(one.time).toFixed(1)} ${y(one[key]).toFixed(1)}`).join("");
        if (area && run.length > 1) {
          parts.push(shape("path", { class: "area", d: `${path}L${x(run.at(-1).time).toFixed(1)} ${bottom}L${x(run[0].time).toFixed(1)} ${bottom}Z` }));
        }
        // A single point is a dot: a line of no length with round ends.
        parts.push(shape("path", { class: `series s${color}`, d: run.length > 1 ? path : `${path}h.1` }));
      }
    }
    const shown = cross == null ? points.at(-1) : nearest(cross);
    if (cross != null && shown) parts.push(shape("line", { class: "cross", x1: x(shown.time), x2: x(shown.time), y1: top, y2: bottom }));
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.replaceChildren(...parts);
    this.when.textContent = cross == null ? "" : clock(shown.time);
    this.series.forEach(([key], place) => { this.values[place].value.textContent = this.format(shown[key]); });
    const words = this.series.map(([key, name]) => `${name} ${this.format(shown[key])}`);
    this.plot.setAttribute("aria-label", `${this.title} at ${clock(shown.time)}: ${words.join(", ")}. Arrow keys move through time.`);
  }

  // Labels stand in two rows; those that would stand on others are left out. The lines are all there.
  marks(seen, x, left, right, top, bottom) {
    const parts = [];
    const free = [-Infinity, -Infinity];
    for (const one of seen) {
      for (const { tone, flag } of one.marks) {
        const at = x(one.time);
        if (at < left) continue;
        const wide = flag.length * 6.4 + 8;
        const fits = at + wide < right;
        const row = free.findIndex((end) => (fits ? at : at - wide) >= end);
        const height = top - 16 + 11 * Math.max(row, 0);
        parts.push(shape("line", { class: `mark ${tone}`, x1: at, x2: at, y1: row < 0 ? top : height - 8, y2: bottom }));
        if (row < 0) continue;
        parts.push(shape("text", { class: `flag ${tone}`, x: fits ? at + 4 : at - 4, y: height, "text-anchor": fits ? "start" : "end" }, flag));
        free[row] = fits ? at + wide : at;
      }
    }
    return parts;
  }
}

// The stretches of points that have a value, without what is out of sight.
function* runs(seen, key, start) {
  let run = [];
  for (const one of seen) {
    const broken = one[key] == null || (run.length && one.time - run.at(-1).time > GAP);
    if (broken && run.length) { yield run; run = []; }
    if (one[key] != null && one.time >= start) run.push(one);
  }
  if (run.length) yield run;
}

function nearest(time) {
  return points.reduce((best, one) => (Math.abs(one.time - time) < Math.abs(best.time - time) ? one : best));
}

function point(time) {
  cross = time;
  for (const chart of charts) chart.draw();
}

const figures = (name) => document.querySelector(`[data-chart="${name}"]`);
const charts = [
  new Chart(figures("throughput"), "Throughput", rate,
    [["responses", "per second", 1, true], ["errors", "failed", 4], ["refused", "refused", 2]]),
  new Chart(figures("latency"), "Latency", millis, [["p99", "99 %", 3], ["p95", "95 %", 2], ["p50", "median", 1]]),
  new Chart(figures("load"), "Queue and workers", count,
    [["busy", "in use", 1, true], ["capacity", "capacity", 3], ["queued", "waiting", 2]]),
];

// Rows keep their places, so that what has the focus keeps it.
function rows(body, items, keyOf, create, update) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, place) => {
    const key = String(keyOf(item));
    const row = old.get(key) || create(item);
    row.dataset.key = key;
    old.delete(key);
    update(row, item);
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] || null);
  });
  for (const row of old.values()) row.remove();
}

function cells(...names) {
  return names.map(([name, kind]) => make("td", { ...(name && { "data-name": name }), ...(kind && { class: kind }) }));
}

function drawRequests() {
  const requests = state.requests || [];
  const more = state.requests_total - requests.length;
  $("requests-note").textContent = requests.length ? `${count(state.requests_total)} in all, the oldest first${more > 0 ? ` (${requests.length} shown)` : ""}` : "";
  $("requests-empty").hidden = requests.length > 0;
  $("requests-empty").previousElementSibling.hidden = !requests.length;
  rows($("request-rows"), requests, (request) => request.id, () => {
    const button = make("button", { class: "link" });
    button.addEventListener("click", () => showStacks(button.request));
    const row = make("tr", {}, ...cells(["", "line"], ["State"], ["Age", "number"], ["In queue", "number"], ["Client"], ["Worker", "number"]));
    row.firstElementChild.append(button);
    return row;
  }, (row, request) => {
    const [line, status, age, queued, client, worker] = row.children;
    const button = line.firstElementChild;
    button.request = request;
    button.disabled = request.pid == null;
    button.title = request.pid == null ? "It waits for a worker" : "Show what it is doing";
    button.textContent = request.request_line;
    status.replaceChildren(make("span", { class: `tag ${request.state === "queued" ? "warn" : "good"}` }, request.state));
    age.textContent = millis(request.age_ms);
    age.classList.toggle("slow", request.age_ms >= SLOW);
    queued.textContent = millis(request.queued_ms);
    client.textContent = request.client;
    worker.textContent = request.pid ?? "–";
  });
}

function drawWorkers() {
  const workers = state.workers || [];
  if (state.gateway) {
    $("workers-note").textContent = `gateway ${state.gateway.pid}: ${bytes(state.gateway.rss)} · arbiter: ${bytes(state.arbiter.rss)}`;
  }
  rows($("worker-rows"), workers, (worker) => worker.pid, (worker) => {
    const stacks = make("button", { class: "button" }, "Stacks");
    stacks.addEventListener("click", () => showStacks({ pid: worker.pid }));
    const replace = make("button", { class: "button" }, "Replace");
    replace.addEventListener("click", () => {
      if (confirm(`Replace worker ${worker.pid}? It finishes what it has.`)) order(`recycle?pid=${worker.pid}`, replace);
    });
    const row = make("tr", {}, ...cells(["Worker"], ["State"], ["Busy", "number"], ["Requests", "number"], ["Age", "number"],
      ["Memory", "number"], ["Generation", "number"], ["Last sign", "number"], ["", "number wide"]));
    row.lastElementChild.append(stacks, " ", replace);
    return row;
  }, (row, worker) => {
    const [pid, status, busy, requests, age, memory, generation, sign, actions] = row.children;
    pid.textContent = worker.pid;
    const tone = { ready: "good", booting: "warn", draining: "warn" }[worker.state] || "";
    status.replaceChildren(make("span", { class: `tag ${tone}` }, worker.state));
    busy.textContent = count(worker.busy);
    requests.textContent = count(worker.requests);
    age.textContent = duration(worker.uptime);
    memory.textContent = bytes(worker.rss);
    generation.textContent = worker.generation;
    sign.textContent = `${millis(worker.silence)} ago`;
    sign.classList.toggle("slow", worker.silence >= STILL);
    actions.lastElementChild.hidden = !state.orders;
  });
}

function drawHeavy() {
  const heavy = state.heavy || [];
  $("heavy").hidden = !heavy.length;
  const waiting = heavy.reduce((sum, one) => sum + one.queued, 0);
  const calls = state.calls || [];
  const notes = waiting ? [`${count(waiting)} wait for a worker of the pool`] : [];
  if (state.calls_total > calls.length) notes.push(`${count(state.calls_total)} calls run, the oldest ${calls.length} shown`);
  $("heavy-note").textContent = notes.join(" · ");
  drawCalls(calls);
  rows($("heavy-rows"), heavy, (one) => one.app, (one) => make("tr", {}, ...cells(["Application"], ["Workers", "number"],
    ["Waiting", "number"], ["Longest", "number"], ["Running", "number"], ["Longest", "number"], ["Answered", "number"], ["Failed", "number"], ["Cancelled", "number"])),
  (row, one) => {
    const [app, workers, queued, waited, running, ran, ...numbers] = row.children;
    app.textContent = one.app;
    workers.textContent = count(one.workers);
    workers.classList.toggle("slow", one.app !== "other" && !one.workers);
    queued.textContent = count(one.queued);
    queued.classList.toggle("slow", one.queued > 0);
    running.textContent = count(one.running);
    [[waited, one.queued_ms], [ran, one.running_ms]].forEach(([cell, age]) => {
      cell.textContent = millis(age);
      cell.classList.toggle("slow", age >= SLOW);
    });
    [one.answered, one.failed, one.cancelled].forEach((number, place) => { numbers[place].textContent = count(number); });
  });
}

function drawCalls(calls) {
  $("calls").hidden = !calls.length;
  rows($("call-rows"), calls.map((call, place) => ({ ...call, place })), (call) => call.place, () => make("tr", {}, ...cells(
    ["", "line"], ["Age", "number"], ["In queue", "number"], ["Worker", "number"], ["Caller", "number"])),
  (row, call) => {
    const [name, age, queued, worker, caller] = row.children;
    name.textContent = call.call;
    age.textContent = millis(call.age_ms);
    age.classList.toggle("slow", call.age_ms >= SLOW);
    queued.textContent = millis(call.queued_ms);
    worker.textContent = call.worker;
    caller.textContent = call.caller || "–";
  });
}

function drawLog() {
  entries.changed = false;
  $("log-empty").hidden = entries.length > 0;
  $("log").hidden = !entries.length;
  const keyOf = (entry) => `${entry.number ?? "event"} ${entry.time} ${entry.text}`;
  rows($("log"), entries, keyOf, (entry) => make("li", {},
    make("time", { datetime: new Date(entry.time * 1000).toISOString() }, clock(entry.time)),
    make("span", { class: `level ${entry.level}` }, entry.level), textOf(entry)), () => {});
}

// A long text, of which stacks are the longest, is opened by who wants to read it.
function textOf(entry) {
  const lines = entry.text.split("\n");
  const from = entry.pid ? [" ", make("time", {}, `(${entry.pid})`)] : [];
  if (lines.length <= 3) return make("p", {}, entry.text, ...from);
  return make("details", {}, make("summary", {}, lines[0], ...from), make("pre", {}, lines.slice(1).join("\n")));
}

// Stacks, orders, the token.

async function showStacks(request) {
  wantedStacks = request;
  $("stacks-title").textContent = request.id ? `What it is doing, in worker ${request.pid}` : `Stacks of worker ${request.pid}`;
  $("stacks-request").textContent = request.request_line || "";
  $("stacks-text").textContent = "…";
  if (!$("stacks").open) $("stacks").showModal();
  const text = await ask(`stacks?pid=${request.pid}${request.id ? `&request=${request.id}` : ""}`);
  if (wantedStacks === request) $("stacks-text").textContent = text.trimEnd();
}

async function ask(path, method = "GET") {
  try {
    const response = await fetch(`${base}/${path}`, { method, headers: headers(), cache: "no-store" });
    return await response.text();
  } catch (error) {
    return `The server was not reached: ${error.message}`;
  }
}

async function order(path, button) {
  button.disabled = true;
  const text = await ask(path, "POST");
  button.disabled = false;
  if (text.trim() !== "ordered") alert(text);
}

function askForToken() {
  $("content").hidden = true;
  $("login").hidden = false;
  $("login-error").textContent = token ? "That is not the token." : "";
  show("waiting", "waiting for the token");
  token = "";
  sessionStorage.removeItem("oxicorn-token");
  $("token").value = "";
  $("token").focus();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  watch();
});
$("reload").addEventListener("click", () => {
  if (confirm("Reload the application? The old workers serve until the new ones are ready.")) order("reload", $("reload"));
});
$("stacks-close").addEventListener("click", () => $("stacks").close());
$("stacks-again").addEventListener("click", () => showStacks(wantedStacks));
$("stacks").addEventListener("close", () => { wantedStacks = null; });
for (const choice of document.querySelectorAll("[name=span]")) {
  choice.addEventListener("change", () => { span = Number(choice.value); point(null); });
}
setInterval(() => {
  const silence = Math.round((Date.now() - heard) / 1000);
  if (heard && silence > 4 && $("status").dataset.state !== "lost") show("stale", `no news for ${silence} s`);
}, 1000);
watch();
