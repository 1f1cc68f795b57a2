// The page: state in the address, controls, pointer and keys; draws when something changed.

const MODES = Object.keys(SHOWN), LAYOUTS = ["one", "side", "wipe"];
const $ = (id) => document.getElementById(id), clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const SLOW_MS = 40, REST_MS = 180, FRAME_MS = 34;

const sources = [...document.querySelectorAll('script[type="application/x-mvtf4d"]')].map((node) => ({
  node, meta: JSON.parse(node.dataset.meta), field: null,
}));
const state = {
  a: 0, b: Math.min(1, sources.length - 1), layout: sources.length > 1 ? "side" : "one", split: 0.5, t: 0, show: "colour", camera: "ortho",
  points: false, bg: "white", filter: "trained", places: [{ ...START }, null],
};
const live = { renderer: null, playing: false, dirty: true, busy: false, gaps: [], touched: 0, fast: false, pane: 0, pointers: new Map() };

// State and address

const WORDS = { show: MODES, camera: ["ortho", "pinhole"], layout: LAYOUTS, bg: Object.keys(BACKGROUNDS), filter: ["trained", "plain"] };
const USUAL = Object.fromEntries(Object.keys(WORDS).map((name) => [name, state[name]]));

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), number = (name, low, high) => {
    const value = Number.parseFloat(given.get(name));
    return Number.isFinite(value) ? clamp(value, low, high) : null;
  };
  for (const [name, words] of Object.entries(WORDS)) if (words.includes(given.get(name))) state[name] = given.get(name);
  for (const name of ["a", "b"]) {
    const found = sources.findIndex((one) => one.meta.label === given.get(name));
    if (found >= 0) state[name] = found;
  }
  if (sources.length < 2) state.layout = "one";
  if (given.has("points")) state.points = given.get("points") === "1";
  state.t = number("t", 0, meta().times.length - 1) ?? state.t;
  state.split = number("split", 0, 1) ?? state.split;
  const limits = { az: 36000, el: 89, zoom: 1000, x: 1e6, y: 1e6, z: 1e6 };
  const least = (name) => (name === "zoom" ? 0.01 : -limits[name]);
  const read = (end) => Object.fromEntries(Object.keys(limits).map((name) => [name, number(name + end, least(name), limits[name]) ?? START[name]]));
  state.places = [read(""), given.has("az2") ? read("2") : null];
}

function writeAddress() {
  const words = new URLSearchParams(), put = (name, value, usual) => { if (value !== usual) words.set(name, value); };
  const short = (value) => String(Math.round(value * 1e4) / 1e4);
  state.places.forEach((place, i) => {
    if (place) for (const name of Object.keys(START)) if (place[name] !== START[name] || (i && name === "az")) words.set(name + (i ? "2" : ""), short(place[name]));
  });
  put("t", short(state.t), "0");
  for (const name of Object.keys(WORDS)) put(name, state[name], USUAL[name]);
  if (sources.length > 1) for (const name of ["a", "b"]) words.set(name, sources[state[name]].meta.label);
  if (state.layout === "wipe") put("split", short(state.split), "0.5");
  put("points", state.points ? "1" : "0", "0");
  try { history.replaceState(null, "", `#${words}`); } catch { /* some browsers limit how often; the next change writes it */ }
}

function meta() { return sources[state.a].meta; }
function frames() { return meta().times.length; }
function shownIndices() { return state.layout === "one" ? [state.a] : [state.a, state.b]; }
function placeOf(pane) { return state.places[pane] || state.places[0]; }

function change(values = {}) {
  Object.assign(state, values);
  state.t = clamp(state.t, 0, frames() - 1);
  state.split = clamp(state.split, 0, 1);
  live.dirty = true;
  live.touched = performance.now();
  showState();
  wake();
}

/** Moves the camera of the pane that was pointed at last; linked panes have one. */
function move(values) {
  const place = placeOf(live.pane);
  Object.assign(place, values);
  place.el = clamp(place.el, -89, 89);
  place.zoom = clamp(place.zoom, 0.05, 200);
  place.az = ((place.az % 360) + 540) % 360 - 180;
  change();
}

// Controls

function showState() {
  const place = placeOf(live.pane), skinned = shownIndices().some((i) => sources[i].meta.kind === "skinned");
  for (const name of ["show", "camera"]) document.querySelector(`input[name="${name}"][value="${state[name]}"]`).checked = true;
  for (const name of ["layout", "bg", "filter", "a", "b", "split"]) $(name).value = state[name];
  for (const name of ["az", "el"]) $(name).value = place[name];
  $("b").disabled = state.layout === "one";
  $("points").checked = state.points;
  $("points").disabled = !skinned;
  $("unlink").checked = state.places[1] !== null;
  $("unlink").disabled = state.layout !== "side";
  $("time").max = frames() - 1;
  $("time").value = state.t;
  document.querySelector(".wipe").hidden = state.layout !== "wipe";
  const whole = Math.round(state.t * 100) / 100;
  $("frame").textContent = `frame ${Number.isInteger(whole) ? whole : whole.toFixed(2)} of ${frames() - 1}`;
  $("place").textContent = `azimuth ${place.az.toFixed(0)}°, elevation ${place.el.toFixed(0)}°, zoom ${place.zoom.toFixed(2)}`;
  $("play").textContent = live.playing ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", live.playing);
  notes(skinned);
}

function notes(skinned) {
  const said = [];
  if (state.points && !skinned) said.push("Control points: not of this kind of field.");
  for (const { linked, times, label } of new Set(shownIndices().map((i) => sources[i].meta)))
    if (!linked && times.length > 1) said.push(`${label}: each frame has Gaussians of its own, so it shows whole frames and no flow.`);
  if (live.renderer && live.renderer.precision === "bytes") said.push("This device blends 8-bit colours only: no depth, normals and flow.");
  $("note").textContent = said.join(" ");
}

function connect() {
  for (const name of ["a", "b"]) {
    sources.forEach((one, i) => $(name).append(new Option(one.meta.label, i)));
    $(name).onchange = () => change({ [name]: Number($(name).value) });
  }
  for (const node of document.querySelectorAll(".two")) node.hidden = sources.length < 2;
  for (const input of document.querySelectorAll('[name="show"], [name="camera"]')) input.onchange = () => change({ [input.name]: input.value });
  for (const name of ["layout", "bg", "filter"]) $(name).onchange = () => change({ [name]: $(name).value });
  $("points").onchange = () => change({ points: $("points").checked });
  $("unlink").onchange = () => change({ places: [state.places[0], $("unlink").checked ? { ...state.places[0] } : null] });
  $("time").oninput = () => change({ t: Number($("time").value) });
  $("split").oninput = () => change({ split: Number($("split").value) });
  for (const name of ["az", "el"]) $(name).oninput = () => move({ [name]: Number($(name).value) });
  for (const node of document.querySelectorAll("[data-view]"))
    node.onclick = () => { const [az, el] = node.dataset.view.split(",").map(Number); move({ az, el }); };
  for (const [name, act] of Object.entries({ fit, play: toggle, copy: copyLink, save: savePicture, help: toggleKeys })) $(name).onclick = act;
  document.onkeydown = onKey;
  window.onhashchange = () => { readAddress(); change(); };
  new ResizeObserver(() => change()).observe($("stage"));
  connectPointer($("picture"));
}

function fit() { move({ zoom: 1, x: 0, y: 0, z: 0 }); }
function toggle() { live.playing = !live.playing && frames() > 1; live.clock = null; change(); }
function toggleKeys() { $("keys").hidden = !$("keys").hidden; $("help").setAttribute("aria-expanded", !$("keys").hidden); }

async function copyLink() {
  writeAddress();
  try { await navigator.clipboard.writeText(location.href); $("note").textContent = "The link is on the clipboard."; }
  catch { $("note").textContent = `The link: ${location.href}`; }
}

function savePicture() {
  drawNow(false);
  $("picture").toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "picture.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// Pointer and keys

function paneAt(x, y) {
  const { clientWidth, clientHeight } = $("picture"), [, second] = panesOf(state.layout, clientWidth, clientHeight);
  return state.layout === "side" && x >= second[0] && y >= second[1] ? 1 : 0;
}

/** World units of a CSS pixel, and the camera's axes, for the pane pointed at. */
function grip() {
  const { clientWidth, clientHeight } = $("picture"), box = panesOf(state.layout, clientWidth, clientHeight)[live.pane];
  const { field } = sources[shownIndices()[live.pane] ?? state.a];
  return { ...cameraIn(state, live.pane, field || { size: 1 }, box[2], box[3]), box };
}

/** Shifts the camera by CSS pixels in the plane of the picture. */
function pan(dx, dy) {
  const { right, down, pixel } = grip(), { x, y, z } = placeOf(live.pane);
  const [mx, my, mz] = [x, y, z].map((at, i) => at - (right[i] * dx + down[i] * dy) * pixel);
  move({ x: mx, y: my, z: mz });
}

/** Zooms so that what lies under a point of the canvas (CSS pixels) stays there. */
function zoomAt(factor, x, y) {
  const { box } = grip(), before = placeOf(live.pane).zoom;
  zoomBy(factor);
  const by = 1 - placeOf(live.pane).zoom / before;
  pan((x - box[0] - box[2] / 2) * by, (y - box[1] - box[3] / 2) * by);
}

function connectPointer(canvas) {
  const local = (event) => [event.offsetX, event.offsetY];
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    const [x, y] = local(event);
    live.pane = paneAt(x, y);
    live.pointers.set(event.pointerId, [x, y]);
    live.wiping = state.layout === "wipe" && live.pointers.size === 1 && Math.abs(x - state.split * canvas.clientWidth) < 16;
  };
  canvas.onpointermove = (event) => {
    if (!live.pointers.has(event.pointerId)) return;
    const before = live.pointers.get(event.pointerId), [x, y] = local(event);
    const other = [...live.pointers].find(([id]) => id !== event.pointerId);
    live.pointers.set(event.pointerId, [x, y]);
    const dx = x - before[0], dy = y - before[1];
    if (live.wiping) change({ split: x / canvas.clientWidth });
    else if (other) {
      const [ox, oy] = other[1], was = Math.hypot(before[0] - ox, before[1] - oy), is = Math.hypot(x - ox, y - oy);
      pan(dx / 2, dy / 2);
      if (was > 0) zoomAt(is / was, (x + ox) / 2, (y + oy) / 2);
    } else if (event.shiftKey || event.buttons & 2) pan(dx, dy);
    else move({ az: placeOf(live.pane).az - dx * 0.4, el: placeOf(live.pane).el + dy * 0.4 });
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => live.pointers.delete(event.pointerId);
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.ondblclick = fit;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = local(event);
    live.pane = paneAt(x, y);
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)), x, y);
  }, { passive: false });
}

function turnWord(name) { change({ [name]: WORDS[name][(WORDS[name].indexOf(state[name]) + 1) % WORDS[name].length] }); }
function step(by) { change({ t: (by < 0 ? Math.ceil(state.t) : Math.floor(state.t)) + by }); }
function zoomBy(factor) { move({ zoom: placeOf(live.pane).zoom * factor }); }

const KEYS = {
  " ": toggle,
  ",": () => step(-1), ".": () => step(1), "<": () => step(-5), ">": () => step(5),
  Home: () => change({ t: 0 }), End: () => change({ t: frames() - 1 }),
  o: () => turnWord("camera"), f: () => turnWord("filter"), w: () => { if (sources.length > 1) turnWord("layout"); },
  c: () => change({ points: !state.points }),
  a: () => change({ a: (state.a + 1) % sources.length }), b: () => change({ b: (state.b + 1) % sources.length }),
  "[": () => change({ split: state.split - 0.05 }), "]": () => change({ split: state.split + 0.05 }),
  "?": toggleKeys, "+": () => zoomBy(1.15), "=": () => zoomBy(1.15), "-": () => zoomBy(1 / 1.15), 0: fit,
  ...Object.fromEntries(MODES.map((mode, i) => [i + 1, () => { if (!$("show").querySelector(`[value=${mode}]`).disabled) change({ show: mode }); }])),
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function onKey(event) {
  if (event.ctrlKey || event.metaKey) return;
  const { target } = event, own = target.matches("select, input, button"), arrow = ARROWS[event.key];
  if (arrow) {
    if (target !== $("picture")) return;
    const by = event.shiftKey ? 15 : 3, place = placeOf(live.pane);
    if (event.altKey) pan(20 * arrow[0], -20 * arrow[1]);
    else move({ az: place.az + by * arrow[0], el: place.el + by * arrow[1] });
  } else {
    const needed = [" ", "Home", "End"].includes(event.key);
    if (event.altKey || !KEYS[event.key] || (own && needed) || target.matches("select")) return;
    KEYS[event.key]();
  }
  event.preventDefault();
}

// Drawing

function wake() {
  if (live.waiting) return;
  live.waiting = true;
  requestAnimationFrame(tick);
}

async function tick(now) {
  live.waiting = false;
  if (live.busy || !live.renderer || live.lost) return;
  if (live.playing) advance(now);
  live.gaps = live.dirty && live.last ? [...live.gaps.slice(-2), now - live.last] : [];
  live.last = now;
  const moving = live.playing || now - live.touched < REST_MS;
  live.fast = moving && (live.fast || (live.gaps.length === 3 && live.gaps.every((gap) => gap > SLOW_MS)));
  if (live.dirty || (live.coarse && !live.fast)) await draw(live.fast);
  if (live.playing || live.dirty || live.coarse) wake();
}

function advance(now) {
  const passed = live.clock ? (now - live.clock) / 1000 : 0, { fps, times } = meta();
  live.clock = now;
  state.t = (state.t + passed * fps * Number($("speed").value)) % Math.max(times.length - 1, 1);
  live.dirty = true;
  showState();
}

async function fieldAt(index) {
  const source = sources[index];
  if (!source.field) source.field = await decodeField(source.meta, source.node.textContent);
  return source.field;
}

/** The fields of the panes; asked again when the panes changed while a field was decoded. */
async function shownFields() {
  for (;;) {
    const wanted = shownIndices(), found = [];
    for (const index of wanted) found.push(await fieldAt(index));
    if (String(wanted) === String(shownIndices())) return found;
  }
}

async function draw(fast) {
  live.busy = true;
  try {
    live.fields = await shownFields();
    live.dirty = false;
    drawNow(fast);
  } catch (error) { fail(String(error.message || error)); }
  live.busy = false;
  if (live.dirty) wake();
}

function drawNow(fast) {
  const stage = $("stage"), ratio = Math.min(2, devicePixelRatio || 1), scale = fast ? ratio / 2 : ratio;
  const set = (canvas, by) => {
    const width = Math.max(2, Math.round(stage.clientWidth * by)), height = Math.max(2, Math.round(stage.clientHeight * by));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  };
  set($("picture"), scale);
  set($("over"), ratio);
  live.coarse = fast;
  drawView(live.renderer, state, live.fields, { fast });
  drawOver($("over"), ratio, state, live.fields, shownIndices().map((i) => sources[i].meta.label));
  const canvas = $("picture"), [box] = panesOf(state.layout, canvas.width, canvas.height);
  const camera = cameraIn(state, 0, live.fields[0], box[2], box[3]);
  $("about").textContent = drawLegend($("legend"), state.show, live.fields[0], { ...camera, focal: camera.focal / (fast ? 0.5 : 1) });
  $("legend").hidden = !["depth", "flow"].includes(state.show);
  if (!live.playing) writeAddress();
}

function fail(reason) {
  live.renderer = null;
  live.playing = false;
  document.documentElement.dataset.error = reason;
  $("app").hidden = true;
  $("fallback").hidden = false;
  $("reason").textContent = `The object cannot be turned here: ${reason}.${$("film").content.childElementCount ? " This is a video of it." : ""}`;
  if (!$("fallback").querySelector("video")) $("fallback").append($("film").content.cloneNode(true));
}

// For other scripts, and tests.
window.mvtf4d = { state, live, sources, START, fieldAt, wake, cameraIn, drawView, interval, poseOf, depthsOf, nearestFirst };

function begin() {
  if (typeof DecompressionStream === "undefined") return fail("this browser cannot inflate data (DecompressionStream)");
  try { live.renderer = new Renderer($("picture")); } catch (error) { return fail(String(error.message || error)); }
  $("app").hidden = false;
  readAddress();
  connect();
  for (const input of document.querySelectorAll('input[name="show"]'))
    input.disabled = live.renderer.precision === "bytes" && FALLS.has(input.value);
  $("picture").addEventListener("webglcontextlost", (event) => { event.preventDefault(); live.lost = true; });
  $("picture").addEventListener("webglcontextrestored", () => { live.lost = false; live.renderer.begin(); change(); });
  change();
  draw(true).then(() => { // the first picture is coarse, the next one whole
    if (live.renderer) document.documentElement.dataset.ready = "true";
    setTimeout(wake, FRAME_MS);
  });
}

begin();
