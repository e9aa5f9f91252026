"use strict";

// The page's state; everything is drawn from it. It is kept in the address, too, so
// that a view can be linked to.
const page = JSON.parse(document.getElementById("data").textContent);
const state = {
  cell: page.cases[0].cell, t: -1, unit: 0, loss: 0, colour: "score", quantity: "",
  line: "", mistake: -1, theme: "",
};
let pointed = null; // the row or node that is pointed at
let one = null; // the case that is shown

// --- numbers ---------------------------------------------------------------------------

const decoded = new Map();

function bytes(text) {
  const raw = atob(text);
  const array = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) array[k] = raw.charCodeAt(k);
  return array.buffer;
}

function float32(text) {
  if (!decoded.has(text)) decoded.set(text, new Float32Array(bytes(text)));
  return decoded.get(text);
}

function bfloat16(text) {
  if (!decoded.has(text)) {
    const halves = new Uint16Array(bytes(text));
    decoded.set(text, new Float32Array(Uint32Array.from(halves, (h) => h * 65536).buffer));
  }
  return decoded.get(text);
}

// {x, mean}: what a packed array has at a step for the chosen unit. `mean` says that x is
// the mean size over all units, because that was asked for or there are no units.
function at(text, t = state.t, unit = state.unit) {
  if (text === undefined) return null;
  const numbers = float32(text);
  const count = one.units.length;
  const x = numbers[t * (count + 1) + unit];
  if (!Number.isNaN(x)) return { x, mean: unit === count };
  return { x: numbers[t * (count + 1) + count], mean: true };
}

const value = (name, t) => at(one.values[name], t);
const gradient = (name, t) => at(one.gradients[state.loss][name], t);
const edge = (from, to, t) => at(one.edges[state.loss][`${from}>${to}`], t);

// A variable of the reverse: its own, or one that the equations have too.
function variable(name, t) {
  const own = one.variables[state.loss][name] ?? one.values[name];
  return at(own, t) ?? (name[0] === "d" ? gradient(name.slice(1), t) : null);
}

function shown(number, count = 3) {
  if (number === null) return "";
  const { x, mean } = number;
  const text = digits(x, count);
  return mean ? `|${text}|` : text;
}

function digits(x, count = 3) {
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size === Infinity) return x > 0 ? "∞" : "−∞";
  const text = size >= 1e4 || size < 1e-3 ? x.toExponential(1) : x.toPrecision(count);
  return text.replace("e+", "e").replaceAll("-", "−");
}

function percent(error) {
  if (!Number.isFinite(error)) return "∞";
  const p = 100 * error;
  if (p >= 1000) return `${error < 1e4 ? Math.round(error) : digits(error)}×`;
  return p >= 10 ? `${Math.round(p)} %` : `${p.toPrecision(2)} %`;
}

const signed = (number) =>
  number === null || number.mean || number.x === 0 ? "" : number.x > 0 ? "pos" : "neg";

// --- building ----------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  return filled(element, attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, v] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), v);
    else if (v !== null && v !== undefined) element.setAttribute(name, v);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([v, text]) => make("option", { value: v }, text)));
  select.value = String(chosen);
}

// --- the address -------------------------------------------------------------------------

function fromAddress() {
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (name in state) state[name] = typeof state[name] === "number" ? Number(text) : text;
  }
}

function toAddress() {
  const kept = Object.entries(state).filter(([, v]) => v !== "" && v !== -1);
  try {
    history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
  } catch {
    // Within another page, a notebook for one, it may have no address of its own.
  }
}

// --- changes -----------------------------------------------------------------------------

function chooseCase() {
  one = page.cases.find((c) => c.cell === state.cell) ?? page.cases[0];
  state.cell = one.cell;
  const last = one.words.length - 1;
  if (state.t < 0) state.t = mostAsked();
  state.t = Math.min(Math.max(Math.round(state.t) || 0, 0), last);
  if (!(state.unit >= 0 && state.unit <= one.units.length)) state.unit = 0;
  if (!(state.loss in one.losses)) state.loss = 0;
  if (!(state.mistake in one.mistakes)) state.mistake = -1;
  const names = graphNodes().filter((n) => n.kind !== "sink").map((n) => n.name);
  if (!names.includes(state.quantity)) state.quantity = one.state.at(-1);
  if (!rowOf(state.line)) state.line = "";
  options($("cell"), page.cases.map((c) => [c.cell, c.cell]), state.cell);
  const units = one.units.map((u, k) => [k, String(u)]);
  options($("unit"), [...units, [units.length, "mean |·| of all"]], state.unit);
  options($("loss"), one.losses.map((name, k) => [k, name]), state.loss);
  options($("quantity"), names.map((name) => [name, name]), state.quantity);
  options($("colour"), [...$("colour").options].map((o) => [o.value, o.text]), state.colour);
  $("slider").max = last;
  buildWords();
  buildMistakes();
  buildListing($("backward"), one.backward, "backward");
  buildListing($("forward"), one.forward, "forward");
  $("backward-file").textContent = `in ${one.file}`;
  $("forward-file").textContent = `in ${one.file}`;
  drawAll();
}

// The word, not at either end, at which the score hangs most on what is read.
function mostAsked() {
  const sizes = sizesOver("x").slice(1, -1);
  return 1 + sizes.indexOf(Math.max(...sizes));
}

const graphNodes = () => one.graph.nodes;

function drawAll() {
  drawTold();
  drawWords();
  drawGraph();
  drawListing($("backward"), one.backward);
  drawListing($("forward"), one.forward);
  drawDetail();
  drawFlow();
  drawCourse();
  drawDamage();
  light();
  toAddress();
}

function goTo(t) {
  state.t = Math.min(Math.max(t, 0), one.words.length - 1);
  drawAll();
}

// --- words -------------------------------------------------------------------------------

function drawTold() {
  const network = `${one.cell}, ${one.size} units, ${one.about}`;
  $("seen").textContent =
    `A recurrent network (${network}) has read “${one.words[state.t]}”, word ` +
    `${state.t + 1} of ${one.words.length}. Below: every number of that step, forward, ` +
    "and every gradient that comes back through it.";
}

function buildWords() {
  const words = one.words.map((word, t) =>
    make("div", { class: "word", role: "option", id: `word${t}`, onclick: () => goTo(t) }, word));
  $("words").replaceChildren(...words);
  $("words").tabIndex = 0;
}

// For each word the colour's strength, from -1 to 1, or from 0 where only size counts.
function strengths() {
  const steps = one.words.map((_, t) => t);
  if (state.colour === "score" && one.scores) {
    const scores = float32(one.scores);
    const told = digits(scores[state.t]);
    $("legend").textContent =
      `Blue: so far the classifier says positive; orange: negative. Now: P(positive) = ${told}.`;
    return steps.map((t) => ({ s: 2 * scores[t] - 1, rgb: null }));
  }
  const name = state.colour === "quantity" ? state.quantity : "x";
  const sizes = steps.map((t) => gradient(name, t)).map((g) => (g.mean ? g.x : Math.abs(g.x)));
  const most = Math.max(...sizes, 1e-300);
  $("legend").textContent =
    `The darker, the larger |d${name}|: how much the score hangs on ${name} at that word.`;
  return sizes.map((size) => ({ s: size / most, rgb: "--size-rgb" }));
}

function drawWords() {
  const elements = [...$("words").children];
  strengths().forEach(({ s, rgb }, t) => {
    const colour = rgb ?? (s > 0 ? "--pos-rgb" : "--neg-rgb");
    const alpha = (0.62 * Math.min(Math.abs(s), 1)).toFixed(3);
    elements[t].style.background = `rgba(var(${colour}), ${alpha})`;
    elements[t].setAttribute("aria-selected", t === state.t);
  });
  $("words").setAttribute("aria-activedescendant", `word${state.t}`);
  const [box, word] = [$("words"), elements[state.t]];
  const top = word.offsetTop - box.offsetTop;
  if (top < box.scrollTop || top + word.offsetHeight > box.scrollTop + box.clientHeight) {
    box.scrollTop = top - box.clientHeight / 2;
  }
  $("slider").value = state.t;
  $("slider").setAttribute("aria-valuetext", `${state.t + 1}: ${one.words[state.t]}`);
  $("step").textContent = `${state.t + 1} of ${one.words.length}: “${one.words[state.t]}”`;
}

// --- the graph ---------------------------------------------------------------------------

function errorOf(quantity) {
  if (state.mistake < 0) return 0;
  const packed = one.mistakes[state.mistake].errors[state.loss][quantity];
  return packed === undefined ? 0 : bfloat16(packed)[state.t];
}

function drawGraph() {
  const box = $("graph");
  const width = Math.max(box.clientWidth, 280);
  const places = one.graph.edges.flatMap((e) => e.path).concat(one.graph.nodes.map((n) => n.at));
  const left = Math.min(...places.map((p) => p[1]));
  const columns = Math.max(...places.map((p) => p[1])) - left + 1;
  const layers = Math.max(...places.map((p) => p[0])) + 1;
  const across = Math.min(width / columns, 150);
  const down = width < 420 ? 76 : 80;
  const size = { w: Math.min(across - 6, 108), h: 50 };
  const indent = (width - across * columns) / 2;
  const place = ([layer, p]) => [indent + (p - left + 0.5) * across, 28 + layer * down];
  const sizes = one.graph.edges.map((e) => Math.abs(edge(e.from, e.to).x));
  const most = Math.max(...sizes, 1e-300);
  const svg = draw("svg", {
    viewBox: `0 0 ${width} ${(layers - 1) * down + 42}`, role: "group",
    "aria-label": "Computation graph of this step",
  });
  const labels = draw("g");
  for (const [k, e] of one.graph.edges.entries()) {
    svg.append(drawEdge(e, e.path.map(place), size, sizes[k] / most, labels));
  }
  svg.append(...one.graph.nodes.map((n) => drawNode(n, place(n.at), size)), labels);
  box.replaceChildren(svg);
}

function drawEdge(e, points, size, share, labels) {
  const number = edge(e.from, e.to);
  const first = [points[0][0], points[0][1] + size.h / 2];
  const end = points.at(-1);
  const last = [end[0], end[1] - size.h / 2];
  const d = smooth([first, ...points.slice(1, -1), last]);
  const width = share > 0 ? 1.2 + 5.3 * Math.max(0, 1 + Math.log10(share) / 3) : 0;
  const sign = signed(number);
  const colour = sign === "" ? "var(--both)" : `var(--${sign})`;
  const group = draw("g", { class: "edge", "data-edge": `${e.from}>${e.to}` });
  group.append(
    draw("path", { class: "halo", d }),
    draw("path", { class: "way", d }),
    draw("path", {
      class: `back ${sign === "neg" ? "minus" : ""}`, d, stroke: colour,
      "stroke-width": width.toFixed(1),
    }),
  );
  // Beside the crowded fans that leave a product, only what is lit has a number.
  const product = one.graph.nodes.find((n) => n.name === e.from).kind === "product";
  const hush = product || size.w < 80;
  // Where edges are furthest from others: near the end that they don't share.
  const shared = one.graph.edges.filter((other) => other.from === e.from).length > 1;
  const [p, x] = shared ? [0.66, 0.8] : [0.34, 0.2];
  const middle = points.length > 2 ? points[Math.floor(points.length / 2)]
    : [first[0] + x * (last[0] - first[0]), first[1] + p * (last[1] - first[1])];
  const label = draw("g", { class: `edge ${hush ? "hush" : ""}`, "data-edge": `${e.from}>${e.to}` });
  label.append(draw("text", { class: `label`, x: middle[0], y: middle[1] + 4,
    style: `fill: ${colour}` }, shown(number)));
  labels.append(label);
  return group;
}

// A curve through the points, upright at its ends; within, as steep as its neighbours say.
function smooth(points) {
  const slope = points.map((_, k) => {
    const [before, after] = [points[k - 1], points[k + 1]];
    return before && after ? (after[0] - before[0]) / (after[1] - before[1]) : 0;
  });
  let d = `M${points[0].map((v) => v.toFixed(1))}`;
  for (let k = 1; k < points.length; k++) {
    const [[x0, y0], [x1, y1]] = [points[k - 1], points[k]];
    const reach = (y1 - y0) * (points.length > 2 ? 0.36 : 0.5);
    const bends = [x0 + slope[k - 1] * reach, y0 + reach, x1 - slope[k] * reach, y1 - reach, x1, y1];
    d += `C${bends.map((v) => v.toFixed(1))}`;
  }
  return d;
}

function drawNode(node, [x, y], size) {
  const sink = node.kind === "sink";
  const font = size.w < 72 ? 10.5 : 12;
  const group = draw("g", {
    class: `node ${node.kind} ${node.name === state.quantity ? "chosen" : ""}`,
    "data-node": node.name, tabindex: sink ? null : 0, role: sink ? null : "button",
    transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`,
  });
  const text = (dy, content, kind = "", bold = font) => draw("text", {
    y: dy, "text-anchor": "middle", class: kind, "font-size": bold }, content);
  group.append(draw("rect", {
    x: -size.w / 2, y: -size.h / 2, width: size.w, height: size.h, rx: 9 }));
  if (sink) {
    group.append(text(-8, node.name, "quiet"));
    return group;
  }
  const [v, d] = [value(node.name), gradient(node.name)];
  const count = size.w < 72 ? 2 : 3;
  group.setAttribute("aria-label", `${node.name} = ${shown(v)}, gradient ${shown(d)}`);
  const colour = signed(d) ? `fill: var(--${signed(d)})` : "";
  const last = text(19, `∂ ${shown(d, count)}`, "d");
  last.setAttribute("style", colour);
  group.append(text(-10, node.name, "name", font + 1), text(5, shown(v, count), "d"), last);
  const off = errorOf(node.name);
  if (off > 1e-9) group.append(badge(percent(off), size));
  const point = () => light(nodeLight(node.name));
  filled(group, {
    onmouseenter: point, onfocus: point, onmouseleave: () => light(), onblur: () => light(),
    onclick: () => { state.quantity = node.name; $("quantity").value = node.name; drawAll(); },
    onkeydown: (event) => { if (event.key === "Enter") group.dispatchEvent(new Event("click")); },
  }, []);
  return group;
}

function badge(text, size) {
  const w = 8 + 6 * text.length;
  return draw("g", { class: "badge", transform: `translate(${size.w / 2 - w / 2 + 4},${-size.h / 2})` },
    draw("rect", { x: -w / 2, y: -8, width: w, height: 15, rx: 4 }),
    draw("text", { y: 3.5 }, text));
}

// --- what is lit -------------------------------------------------------------------------

const allRows = () => [...one.backward, ...one.forward];
const keyOf = (row) => row.targets.length ? `${row.line} ${row.targets[0].name}` : "";
const rowOf = (key) => key && allRows().find((row) => keyOf(row) === key);

function rowLight(row) {
  return {
    nodes: row.targets.flatMap((t) => t.nodes),
    edges: row.targets.flatMap((t) => t.edges.map(([a, b]) => `${a}>${b}`)),
    rows: [keyOf(row)],
  };
}

function nodeLight(name) {
  const rows = allRows().filter((row) =>
    row.targets.some((t) => [name, `d${name}`, `total d${name}`].includes(t.name)));
  const edges = one.graph.edges.filter((e) => e.from === name);
  return { nodes: [name], edges: edges.map((e) => `${e.from}>${e.to}`), rows: rows.map(keyOf) };
}

// Lights something up; without an argument, what is pinned.
function light(what) {
  const pinned = rowOf(state.line);
  const lit = what ?? (pinned ? rowLight(pinned) : { nodes: [], edges: [], rows: [] });
  $("graph").classList.toggle("lighting", lit.edges.length > 0);
  const toggle = (selector, key, names) => {
    for (const element of document.querySelectorAll(selector)) {
      element.classList.toggle("lit", names.includes(element.dataset[key]));
    }
  };
  toggle(".node", "node", lit.nodes);
  toggle(".edge", "edge", lit.edges);
  toggle(".row", "row", lit.rows);
}

// --- the listings ------------------------------------------------------------------------

function buildListing(box, rows, kind) {
  box.replaceChildren(...rows.map((row) => {
    const comment = row.comment ? make("span", { class: "comment" }, (row.code ? "  " : "") + row.comment) : null;
    const code = make("span", { class: "code" }, make("span", { class: "text" }, row.code), comment);
    if (!row.targets.length) {
      return make("div", { class: "row plain" }, make("span"), code, make("span"));
    }
    const number = make("span", { class: "number" }, `(${row.equation})`);
    const button = make("button", { class: "row", type: "button", "data-row": keyOf(row),
      "data-kind": kind }, number, code, make("span", { class: "value" }));
    const point = () => { pointed = row; light(rowLight(row)); drawDetail(); };
    const leave = () => { pointed = null; light(); drawDetail(); };
    return filled(button, { onmouseenter: point, onfocus: point, onmouseleave: leave,
      onblur: leave, onclick: () => pin(row) }, []);
  }));
}

function pin(row) {
  state.line = state.line === keyOf(row) ? "" : keyOf(row);
  const k = one.mistakes.findIndex((m) => sameLine(m, row));
  if (k >= 0 && state.mistake < 0) chooseLine(k);
  drawAll();
}

const sameLine = (mistake, row) =>
  row.equation === mistake.equation && row.targets[0]?.name === mistake.target;

const isReverse = (row) => one.backward.includes(row);

function numberOf(target, row) {
  if (target.name.startsWith("total d")) return gradient(target.name.slice(7));
  return isReverse(row) ? variable(target.name) : value(target.name);
}

function drawListing(box, rows) {
  const planted = one.mistakes[state.mistake];
  for (const [k, row] of rows.entries()) {
    const element = box.children[k];
    if (!row.targets.length) continue;
    element.setAttribute("aria-pressed", state.line === keyOf(row));
    element.classList.toggle("pinned", state.line === keyOf(row));
    const numbers = row.targets.map((t) => numberOf(t, row));
    const cell = element.querySelector(".value");
    cell.replaceChildren(...numbers.flatMap((n, j) =>
      [make("span", { class: isReverse(row) ? signed(n) : "" }, (j ? "  " : "") + shown(n))]));
    const text = element.querySelector(".text");
    const wrong = planted && isReverse(row) && sameLine(planted, row);
    text.replaceChildren(...(wrong
      ? [make("del", {}, row.code), " ", make("ins", {}, `${planted.target} = ${planted.text}`)]
      : [row.code]));
    const off = isReverse(row) ? errorOf(row.targets[0].name.replace("total ", "").slice(1)) : 0;
    if (off > 1e-9) cell.append(" ", make("span", { class: "off" }, `off ${percent(off)}`));
  }
}

// --- one line's numbers ------------------------------------------------------------------

function drawDetail() {
  const row = pointed ?? rowOf(state.line);
  const box = $("detail");
  if (!row) {
    box.replaceChildren(make("h2", {}, "Point at a line"), make("p", { class: "quiet" },
      "… of the reverse below: here stand the numbers that made it, at this word and unit, " +
      "and the graph lights up where it goes through. A click holds it."));
    return;
  }
  const reverse = isReverse(row);
  box.replaceChildren(make("h2", {}, title(row, reverse)),
    ...row.targets.map((target) => formula(row, target, reverse)), remark(row));
}

function title(row, reverse) {
  const name = row.targets[0].name.replace("total ", "");
  const unit = state.unit < one.units.length ? `unit ${one.units[state.unit]}` : "mean over units";
  const what = reverse
    ? `${name}: the gradient of ${name.slice(1)}, through equation (${row.equation})`
    : `Equation (${row.equation})`;
  return `${what} · word ${state.t + 1}, ${unit}`;
}

function formula(row, target, reverse) {
  const look = reverse ? variable : value;
  const name = target.name.replace("total ", "");
  const result = numberOf(target, row);
  const box = make("div", { class: "formula" });
  const line = (left, ...right) => box.append(make("span", {}, left), make("span", {}, "="), make("span", {}, ...right));
  const names = target.parts.filter(([kind]) => kind === "name");
  if (target.parts.length) line(name, target.parts.map(([, text]) => text).join(""));
  if (names.length) {
    line("", ...target.parts.map(([kind, text]) => {
      if (kind === "text") return text.replaceAll(" * ", " · ").replaceAll("**2", "²");
      const number = look(text);
      const written = shown(number);
      return make("span", { class: "factor", title: text }, written.startsWith("−") ? `(${written})` : written);
    }));
  }
  line(target.parts.length ? "" : name, make("strong", { class: reverse ? signed(result) : "" }, shown(result)));
  return box;
}

function remark(row) {
  const through = row.targets.flatMap((t) => t.edges).map(([a, b]) => `${a} → ${b}`);
  const told = [];
  if (through.length) told.push(`Lit: ${through.join(", ")}.`);
  if (state.unit === one.units.length) told.push("Means over the units: they need not multiply.");
  told.push(row.line);
  return make("p", { class: "quiet" }, told.join(" "));
}

// --- charts ------------------------------------------------------------------------------

const sizesOver = (name) => {
  const numbers = float32(one.gradients[state.loss][name]);
  const width = one.units.length + 1;
  return one.words.map((_, t) => numbers[t * width + width - 1]);
};

function chart(box, height, top, bottom, label) {
  const width = Math.max(box.clientWidth, 260);
  const count = one.words.length;
  const x = (t) => 44 + (t + 0.5) * ((width - 52) / count);
  const y = (v) => 10 + (height - 34) * (1 - (v - bottom) / (top - bottom || 1));
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label });
  filled(svg, { onclick: (event) => {
    const rect = svg.getBoundingClientRect();
    goTo(Math.floor(((event.clientX - rect.left) * (width / rect.width) - 44) / ((width - 52) / count)));
  } }, []);
  svg.append(draw("line", { class: "now", x1: x(state.t), x2: x(state.t), y1: 4, y2: height - 20 }));
  const word = draw("text", { class: "tick", x: x(state.t), y: height - 7,
    "text-anchor": state.t < count / 6 ? "start" : state.t > (5 * count) / 6 ? "end" : "middle" },
  `${state.t + 1} ${one.words[state.t]}`);
  svg.append(word);
  box.replaceChildren(svg);
  return { svg, x, y, width, height };
}

function gridLine({ svg, y, width }, v, text) {
  svg.append(draw("line", { class: "axis", x1: 44, x2: width - 8, y1: y(v), y2: y(v) }),
    draw("text", { class: "tick", x: 40, y: y(v) + 3.5, "text-anchor": "end" }, text));
}

function path({ x, y }, numbers) {
  let d = "";
  let pen = false;
  numbers.forEach((v, t) => {
    if (Number.isFinite(v)) d += `${pen ? "L" : "M"}${x(t).toFixed(1)},${y(v).toFixed(1)}`;
    pen = Number.isFinite(v);
  });
  return d;
}

const COLOURS = ["var(--pos)", "var(--neg)", "var(--ring)", "var(--both)"];

function drawFlow() {
  const names = one.state;
  const logs = (numbers) => numbers.map((v) => (v > 0 ? Math.log10(v) : NaN));
  const series = names.map((name) => logs(sizesOver(name)));
  const planted = one.mistakes[state.mistake];
  const wrong = planted ? names.map((n) => logs([...bfloat16(planted.flow[state.loss][n])])) : [];
  const all = [...series, ...wrong].flat().filter(Number.isFinite);
  const top = Math.ceil(Math.max(...all, -8) + 0.01);
  const bottom = Math.max(Math.floor(Math.min(...all, top - 1)), top - 16);
  $("flow-title").textContent =
    `What comes back to each word: mean |d${names.join("|, |d")}| over the units`;
  const frame = chart($("flow"), 168, top, bottom, $("flow-title").textContent);
  const every = Math.max(1, Math.ceil((top - bottom) / 5));
  for (let p = top; p >= bottom; p -= every) gridLine(frame, p, p === 0 ? "1" : `1e${p}`.replace("-", "−"));
  const right = state.t > 0.78 * (one.words.length - 1);
  let lowest = -Infinity; // labels stand apart, from the top
  const byHeight = names.map((_, k) => k).sort((a, b) => series[b][state.t] - series[a][state.t]);
  byHeight.forEach((k) => {
    const name = names[k];
    const colour = COLOURS[k % COLOURS.length];
    frame.svg.append(draw("path", { class: "series", d: path(frame, series[k]), stroke: colour }));
    if (wrong[k]) frame.svg.append(draw("path", { class: "series wrong", d: path(frame, wrong[k]), stroke: colour }));
    const here = series[k][state.t];
    if (Number.isFinite(here)) {
      frame.svg.append(draw("circle", { cx: frame.x(state.t), cy: frame.y(here), r: 4, fill: colour }));
      lowest = Math.max(frame.y(here) - 6, lowest + 14);
      frame.svg.append(draw("text", { x: frame.x(state.t) + (right ? -8 : 8), y: lowest, class: "told",
        "text-anchor": right ? "end" : "start", "font-size": 11.5, style: `fill: ${colour}` },
      `|d${name}| = ${digits(10 ** here)}`));
    }
  });
}

function drawCourse() {
  const name = state.quantity;
  const steps = one.words.map((_, t) => t);
  const values = steps.map((t) => value(name, t).x);
  const gradients = steps.map((t) => gradient(name, t).x);
  // One line of 0 for both: at the bottom for sizes, else in the middle.
  const most = Math.max(...values.filter(Number.isFinite).map(Math.abs), 1e-300);
  const least = [...values, ...gradients].some((v) => v < 0) ? -most : 0;
  const frame = chart($("course"), 150, most, least, `${name} and d${name} over time`);
  gridLine(frame, most, digits(most));
  gridLine(frame, 0, "0");
  if (least < 0) gridLine(frame, least, digits(least));
  const size = Math.max(...gradients.map(Math.abs), 1e-300);
  const zero = frame.y(0);
  const reach = zero - frame.y(most);
  const bar = Math.max(2, (frame.width - 52) / steps.length - 2);
  gradients.forEach((g, t) => {
    const h = (Math.abs(g) / size) * reach;
    frame.svg.append(draw("rect", { x: frame.x(t) - bar / 2, y: g > 0 ? zero - h : zero, width: bar,
      height: Math.max(h, 0.4), fill: `rgba(var(${g >= 0 ? "--pos-rgb" : "--neg-rgb"}), .55)` }));
  });
  frame.svg.append(draw("path", { class: "series", d: path(frame, values), stroke: "var(--ink)" }));
  frame.svg.append(draw("text", { class: "tick", x: frame.width - 8, y: 9, "text-anchor": "end" },
    `line: ${name}; bars: d${name}, up to ${digits(size)}`));
}

// --- mistakes ----------------------------------------------------------------------------

const nameOfLine = (m) => `${m.target} (${m.equation})`;

function buildMistakes() {
  const lines = [...new Set(one.mistakes.map(nameOfLine))];
  options($("mistake-line"), lines.map((name) => [name, name]), lines[0]);
  chooseLine(Math.max(state.mistake, 0));
}

function chooseLine(k) {
  const line = nameOfLine(one.mistakes[k]);
  $("mistake-line").value = line;
  const there = [...one.mistakes.entries()].filter(([, m]) => nameOfLine(m) === line);
  options($("mistake"), [[-1, "choose what goes wrong …"],
    ...there.map(([j, m]) => [j, `${m.target} = ${m.text}   (${m.kind})`])], state.mistake);
  if (!$("mistake").value) $("mistake").value = -1;
}

function drawDamage() {
  $("undo").hidden = state.mistake < 0;
  const planted = one.mistakes[state.mistake];
  if (!planted) {
    $("damage-told").textContent =
      "Choose a line of the reverse and what is wrong with it: the graph, the lines and the " +
      "first chart show how far off every gradient then is.";
    $("damage").replaceChildren();
    return;
  }
  const here = Object.keys(one.gradients[state.loss])
    .map((name) => [name, errorOf(name)]).filter(([, off]) => off > 1e-9);
  const params = Object.entries(planted.params[state.loss]).map(([n, off]) => [n, off ?? Infinity]);
  const spoiled = params.filter(([, off]) => off > 1e-9).map(([n]) => `d${n}`);
  $("damage-told").textContent =
    `With ${planted.target} = ${planted.text} (${planted.kind}), ${here.length} gradients of this ` +
    `step are off` + (spoiled.length ? `, and over the whole sequence ${spoiled.join(", ")}.` : ".");
  // On a scale of logarithms: nothing up to 0.1 %, all of it from 1000 times.
  const reach = (off) => Math.min(Math.max(Math.log10(off || 1e-9) + 3, 0) / 6, 1) * 100;
  const rows = (pairs) => pairs.flatMap(([name, off]) => [
    make("code", {}, `d${name}`),
    make("div", {}, make("div", { class: "bar", style: `width: ${reach(off)}%` })),
    make("span", {}, off > 1e-9 ? `off ${percent(off)}` : "right")]);
  $("damage").replaceChildren(
    make("div", { class: "head" }, "Parameters, summed over all steps"), ...rows(params),
    make("div", { class: "head" }, `Word ${state.t + 1}, all units: ‖wrong − right‖ / ‖right‖`), ...rows(here));
}

// --- events ------------------------------------------------------------------------------

function setTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = state.theme || (dark ? "dark" : "light");
}

function onChoice(id, change) {
  $(id).addEventListener("change", () => { change($(id).value); });
}

onChoice("cell", (v) => { state.cell = v; state.mistake = -1; state.line = ""; pointed = null; chooseCase(); });
onChoice("unit", (v) => { state.unit = Number(v); drawAll(); });
onChoice("loss", (v) => { state.loss = Number(v); drawAll(); });
onChoice("colour", (v) => { state.colour = v; drawAll(); });
onChoice("quantity", (v) => { state.quantity = v; drawAll(); });
onChoice("mistake-line", (v) => {
  state.mistake = -1;
  chooseLine(one.mistakes.findIndex((m) => nameOfLine(m) === v));
  drawAll();
});
onChoice("mistake", (v) => { state.mistake = Number(v); drawAll(); });
$("undo").addEventListener("click", () => { state.mistake = -1; $("mistake").value = -1; drawAll(); });
$("slider").addEventListener("input", () => goTo(Number($("slider").value)));
$("back").addEventListener("click", () => goTo(state.t - 1));
$("on").addEventListener("click", () => goTo(state.t + 1));
$("theme").addEventListener("click", () => {
  state.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  setTheme();
  toAddress();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", setTheme);

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, input")) return;
  const moves = { ArrowLeft: state.t - 1, ArrowRight: state.t + 1, Home: 0, End: one.words.length - 1 };
  const rows = [...document.querySelectorAll("button.row")];
  const row = rows.indexOf(document.activeElement);
  if (event.key in moves) goTo(moves[event.key]);
  else if (row >= 0 && event.key === "ArrowDown") rows[row + 1]?.focus();
  else if (row >= 0 && event.key === "ArrowUp") rows[row - 1]?.focus();
  else if (event.key === "Escape") { state.line = ""; pointed = null; drawAll(); }
  else return;
  event.preventDefault();
});

let touch = null;
for (const id of ["graph", "flow", "course"]) {
  $(id).addEventListener("touchstart", (event) => { touch = event.touches[0]; }, { passive: true });
  $(id).addEventListener("touchend", (event) => {
    const end = event.changedTouches[0];
    const [dx, dy] = [end.clientX - touch.clientX, end.clientY - touch.clientY];
    if (Math.abs(dx) > 45 && Math.abs(dx) > 2 * Math.abs(dy)) goTo(state.t + (dx < 0 ? 1 : -1));
  }, { passive: true });
}

window.addEventListener("hashchange", () => { fromAddress(); setTheme(); chooseCase(); });
let width = innerWidth;
window.addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawAll(); } });

fromAddress();
setTheme();
$("how").open = matchMedia("(min-width: 56rem)").matches;
chooseCase();
