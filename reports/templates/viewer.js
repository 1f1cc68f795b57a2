// Scene page: what is chosen (kept in the address), pictures of all methods drawn in one go, playback.
"use strict";
window.report = (() => {
  const scene = window.SCENE;
  const root = document.documentElement;
  const by = (id) => document.getElementById(id);
  const FRAMES_PER_SECOND = 12;

  // Build elements without ever parsing names as markup.
  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  const trouble = (message) => {
    root.dataset.error = message;
    by("trouble").textContent = `Something went wrong on this page: ${message}`;
    by("trouble").hidden = false;
  };
  addEventListener("error", (event) => trouble(event.message || "a file could not be loaded"));
  addEventListener("unhandledrejection", (event) => trouble(String(event.reason)));

  // ---- state -------------------------------------------------------------------------------------
  const views = scene.views.map((view) => view.name);
  const ids = scene.series.map((series) => series.id);
  const metrics = scene.metrics.filter((metric) => metric.perFrame).map((metric) => metric.id);
  const last = Math.max(0, scene.frames - 1);
  // The first view on which a measured row has values of the first metric; else of any row; else the first view.
  const valued = (kinds) => views.find((view) => scene.series.some((series) => kinds.includes(series.kind) && scene.values[metrics[0]]?.[series.id]?.[view]));
  // Shown at first: the reference, the measured rows and one known answer between the best and the worst.
  const known = scene.series.filter((series) => series.kind === "oracle");
  const kept = known.find((series) => series.label.startsWith("blurred")) || known.find((series) => !series.label.startsWith("ground-truth"));
  const folds = known.length > 2 && scene.series.some((series) => series.kind === "measured");
  const folded = folds ? known.filter((series) => series !== kept).map((series) => series.id).join(",") : "";
  const defaults = {
    view: valued(["measured"]) || valued(["measured", "oracle"]) || views[0], frame: 0, mode: "pictures", metric: metrics[0] || "",
    a: ids[0], b: ids[1] || ids[0], gain: 4, hide: folded,
  };
  const allowed = { view: views, mode: ["pictures", "difference", "wipe"], metric: metrics, a: ids, b: ids };

  const fromAddress = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const state = { ...defaults };
    for (const [name, values] of Object.entries(allowed)) if (values.includes(asked.get(name))) state[name] = asked.get(name);
    const whole = (name, low, high) => {
      const value = Number.parseInt(asked.get(name), 10);
      if (Number.isFinite(value)) state[name] = Math.min(high, Math.max(low, value));
    };
    whole("frame", 0, last);
    whole("gain", 1, 16);
    if (asked.has("hide")) state.hide = asked.get("hide").split(",").filter((id) => ids.includes(id)).join(",");
    return state;
  };

  let state = fromAddress();
  const listeners = [];
  const address = (patch = {}) => {
    const target = { ...state, ...patch };
    const kept = Object.entries(target).filter(([name, value]) => name === "view" || name === "frame" || value !== defaults[name]);
    return `#${new URLSearchParams(kept.map(([name, value]) => [name, String(value)]))}`;
  };
  const set = (patch) => {
    const before = state;
    state = { ...state, ...patch };
    const changed = new Set(Object.keys(state).filter((name) => state[name] !== before[name]));
    if (!changed.size) return;
    if (!playing) history.replaceState(null, "", address());
    for (const listener of listeners) listener(changed);
  };
  const on = (listener) => { listeners.push(listener); };
  const isShown = (id) => !state.hide.split(",").includes(id);
  const shown = () => scene.series.filter((series) => isShown(series.id));
  addEventListener("hashchange", () => { // an address of a section of the page changes nothing here
    if (!location.hash || location.hash.includes("=")) set(fromAddress());
  });

  // ---- pictures ----------------------------------------------------------------------------------
  const images = new Map(); // name -> HTMLImageElement; drawing needs no second request
  const fetchImage = (name) => {
    if (!images.has(name)) {
      const image = new Image();
      image.src = `../pictures/${name}`;
      image.whole = image.decode().then(() => true, () => false);
      images.set(name, image);
    }
    return images.get(name);
  };
  const sequence = (id, view = state.view) => scene.pictures[view][id];
  const file = (id, view, frame) => sequence(id, view).files[frame] || null;
  const why = (id, view, frame) => {
    const found = sequence(id, view);
    if (found.broken[frame]) return found.broken[frame];
    return found.files.length ? `No frame ${frame}: ${found.why}` : found.why;
  };
  const needed = (view, frame) => ids.filter(isShown).map((id) => file(id, view, frame)).filter(Boolean);

  const panes = new Map();
  const stack = (...classes) => make("div", { class: ["stack", ...classes].join(" ") });
  const canvas = (name) => make("canvas", { class: name, "aria-hidden": "true" });
  const buildPanes = () => {
    for (const series of scene.series) {
      const box = stack();
      const parts = { base: canvas("base"), gap: make("p", { class: "gap" }), value: make("span", { class: "value" }) };
      box.append(parts.base, parts.gap);
      const swatch = make("span", { class: `swatch ${series.kind}`, style: `--c: var(--c${series.color % 10})`, "aria-hidden": "true" });
      parts.figure = make("figure", { class: "pane", "data-series": series.id },
        box, make("figcaption", {}, swatch, make("span", { class: "label" }, series.label), parts.value));
      parts.box = box;
      by("panes").append(parts.figure);
      panes.set(series.id, parts);
    }
    const box = stack("large");
    const parts = {
      box, a: canvas("base"), b: canvas("over"), gap: make("p", { class: "gap" }), line: make("span", { class: "line" }),
      nameA: make("span", { class: "name a" }), nameB: make("span", { class: "name b" }),
      at: make("input", { type: "range", min: "0", max: "100", step: "0.5", value: "50", "aria-label": "Wipe between A and B", id: "wipe-at" }),
    };
    box.append(parts.a, parts.b, parts.gap, parts.line, parts.nameA, parts.nameB);
    const move = () => box.style.setProperty("--at", `${parts.at.value}%`);
    const drag = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const edge = box.getBoundingClientRect();
      parts.at.value = String(Math.min(100, Math.max(0, ((event.clientX - edge.left) / edge.width) * 100)));
      move();
    };
    parts.at.addEventListener("input", move);
    box.addEventListener("pointerdown", (event) => { box.setPointerCapture(event.pointerId); drag(event); });
    box.addEventListener("pointermove", drag);
    by("wipe").append(box, parts.at);
    move();
    return parts;
  };

  const loaded = (name) => {
    const image = name ? images.get(name) : null;
    return image && image.complete && image.naturalWidth ? image : null;
  };
  // `minus` is subtracted inside the canvas, pixel by pixel: stacked layers are sampled apart when scaled.
  const paint = (surface, name, minus = null) => {
    const image = loaded(name);
    surface.hidden = !image;
    if (!image) return false;
    if (surface.width !== image.naturalWidth || surface.height !== image.naturalHeight) {
      surface.width = image.naturalWidth;
      surface.height = image.naturalHeight;
    }
    surface.classList.toggle("pixels", image.naturalWidth < 200);
    const pen = surface.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.drawImage(image, 0, 0);
    if (minus) {
      pen.globalCompositeOperation = "difference";
      pen.drawImage(loaded(minus), 0, 0, surface.width, surface.height);
    }
    return true;
  };

  const format = (metric, value) => {
    if (value === null || value === undefined) return "";
    if (value === "inf") return "∞";
    if (value === "-inf") return "−∞";
    return value.toFixed(metric.digits).replace("-", "−");
  };
  const metricOf = (id = state.metric) => scene.metrics.find((metric) => metric.id === id);
  const valueAt = (metric, id, view, frame) => scene.values[metric]?.[id]?.[view]?.[frame] ?? null;

  // Everything on screen changes here, in one task, so no pane is ever a frame ahead of another.
  const draw = (view, frame) => {
    const truth = file("gt", view, frame);
    const metric = metricOf();
    for (const series of scene.series) {
      const pane = panes.get(series.id);
      pane.figure.hidden = !isShown(series.id);
      const size = sequence(series.id, view).size || sequence("gt", view).size;
      pane.box.style.aspectRatio = size ? `${size[0]} / ${size[1]}` : "1";
      const subtract = state.mode === "difference" && series.id !== "gt";
      const comparable = subtract && Boolean(loaded(truth));
      const there = paint(pane.base, file(series.id, view, frame), comparable ? truth : null);
      pane.box.classList.toggle("difference", there && comparable);
      let gap = there ? "" : why(series.id, view, frame);
      if (there && subtract && !comparable) gap = `Nothing to compare with. ${why("gt", view, frame)}`;
      pane.gap.textContent = gap;
      pane.gap.hidden = !gap;
      const value = metric ? format(metric, valueAt(metric.id, series.id, view, frame)) : "";
      pane.value.textContent = value;
      pane.figure.dataset.shown = `${view}/${frame}`;
      pane.figure.dataset.file = file(series.id, view, frame) || "";
    }
    drawWipe(view, frame);
    root.dataset.shown = `${view}/${frame}`;
  };

  const drawWipe = (view, frame) => {
    const size = sequence(state.a, view).size || sequence(state.b, view).size;
    wipe.box.style.aspectRatio = size ? `${size[0]} / ${size[1]}` : "1";
    const gaps = [];
    for (const side of ["a", "b"]) {
      const id = state[side];
      if (!paint(wipe[side], file(id, view, frame))) gaps.push(why(id, view, frame));
      wipe[`name${side.toUpperCase()}`].textContent = scene.series.find((series) => series.id === id).label;
    }
    wipe.gap.textContent = gaps.join(" · ");
    wipe.gap.hidden = !gaps.length;
  };

  let turn = 0;
  const show = async () => {
    const mine = ++turn;
    const { view, frame } = state;
    root.dataset.ready = "false";
    const extra = state.mode === "wipe" ? [file(state.a, view, frame), file(state.b, view, frame)].filter(Boolean) : [];
    const first = [...needed(view, frame), ...extra, ...[file("gt", view, frame)].filter(Boolean)].map(fetchImage);
    if (first.some((image) => !image.complete)) await Promise.all(first.map((image) => image.whole));
    if (mine !== turn) return; // something newer was asked for meanwhile
    draw(view, frame);
    root.dataset.ready = "true";
    preload(view, frame);
  };

  // The whole view, nearest frames first; a running preload of another view gives way.
  let preloading = "";
  const preload = async (view, frame) => {
    const wanted = `${view} ${state.hide}`;
    if (preloading === wanted) return;
    preloading = wanted;
    for (let ahead = 1; ahead <= last; ahead += 1) {
      await Promise.all(needed(view, (frame + ahead) % scene.frames).map((name) => fetchImage(name).whole));
      if (preloading !== wanted) return;
    }
    root.dataset.preloaded = view;
  };

  // ---- playback ----------------------------------------------------------------------------------
  let playing = false;
  let due = 0;
  const ready = (frame) => needed(state.view, frame).every((name) => fetchImage(name).complete);
  const tick = (now) => {
    if (!playing) return;
    const next = state.frame >= last ? 0 : state.frame + 1;
    const period = 1000 / (FRAMES_PER_SECOND * Number(by("speed").value));
    if (now >= due && ready(next)) { // a late picture holds every pane back
      due = Math.max(due + period, now);
      set({ frame: next });
    }
    requestAnimationFrame(tick);
  };
  const play = (go) => {
    playing = go && last > 0;
    by("play").setAttribute("aria-pressed", String(playing));
    by("play").querySelector("span").textContent = playing ? "Pause" : "Play";
    if (playing) { due = performance.now(); requestAnimationFrame(tick); } else history.replaceState(null, "", address());
  };

  // ---- controls ----------------------------------------------------------------------------------
  const describe = (view) => {
    const angles = [["az", view.azimuth], ["el", view.elevation || null]].filter(([, at]) => at !== null);
    return [view.name, angles.map(([name, at]) => `${name} ${at}°`.replace("-", "−")).join(", ")].filter(Boolean).join(" · ");
  };
  const options = (id, entries) => by(id).append(...entries.map(([value, text]) => make("option", { value }, text)));
  const buildControls = () => {
    options("view", scene.views.map((view) => [view.name, describe(view)]));
    const names = scene.series.map((series) => [series.id, series.label]);
    options("a", names);
    options("b", names);
    options("metric", scene.metrics.filter((metric) => metric.perFrame).map((metric) => [metric.id, metric.title]));
    if (!metrics.length) options("metric", [["", "none per frame"]]);
    for (const id of ["view", "a", "b", "metric"]) by(id).addEventListener("change", () => set({ [id]: by(id).value }));
    by("gain").addEventListener("input", () => set({ gain: Number(by("gain").value) }));
    by("mode").addEventListener("change", (event) => set({ mode: event.target.value }));
    by("scrubber").addEventListener("input", () => { play(false); set({ frame: Number(by("scrubber").value) }); });
    by("play").addEventListener("click", () => play(!playing));
    by("keys").addEventListener("click", () => {
      by("key-list").hidden = !by("key-list").hidden;
      by("keys").setAttribute("aria-expanded", String(!by("key-list").hidden));
    });
    for (const series of scene.series) {
      const button = make("button", { type: "button", "data-series": series.id },
        make("span", { class: `swatch ${series.kind}`, style: `--c: var(--c${series.color % 10})` }), series.label);
      button.addEventListener("click", () => {
        const hidden = ids.filter((id) => (id === series.id ? isShown(id) : !isShown(id)));
        set({ hide: hidden.join(",") });
      });
      by("shown").append(button);
    }
    if (folded) {
      const more = make("button", { type: "button", id: "more" }, "");
      more.addEventListener("click", () => set({ hide: state.hide ? "" : folded }));
      by("shown").append(more);
    }
  };
  const syncControls = () => {
    for (const id of ["view", "a", "b", "metric", "gain"]) by(id).value = state[id];
    by("scrubber").value = state.frame;
    by("scrubber").setAttribute("aria-valuetext", `frame ${state.frame} of 0 to ${last}`);
    by("frame").textContent = `${state.frame} / ${last}`;
    by("gain-value").textContent = `${state.gain}×`;
    by("panes").style.setProperty("--gain", state.gain);
    by("panes").hidden = state.mode === "wipe";
    by("shown").hidden = state.mode === "wipe" && !metrics.length;
    by("wipe").hidden = state.mode !== "wipe";
    by("difference-note").hidden = state.mode !== "difference";
    for (const field of document.querySelectorAll("[data-for]")) field.hidden = field.dataset.for !== state.mode;
    by("mode").querySelector(`input[value=${state.mode}]`).checked = true;
    for (const button of by("shown").querySelectorAll("[data-series]")) button.setAttribute("aria-pressed", String(isShown(button.dataset.series)));
    if (folded) by("more").textContent = state.hide ? `Show ${state.hide.split(",").length} more` : "Show fewer";
  };

  const next = (values, value, step) => values[(values.indexOf(value) + step + values.length) % values.length];
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("select, input:not(#scrubber), [tabindex]")) return; // these have keys of their own
    if (event.key === " " && event.target.closest("button, summary, a")) return;
    const jump = event.shiftKey ? 5 : 1;
    const frame = (value) => () => { play(false); set({ frame: Math.min(last, Math.max(0, value)) }); };
    const actions = {
      ArrowLeft: frame(state.frame - jump), ArrowRight: frame(state.frame + jump), Home: frame(0), End: frame(last),
      " ": () => play(!playing),
      v: () => set({ view: next(views, state.view, jump === 5 ? -1 : 1) }),
      m: () => metrics.length && set({ metric: next(metrics, state.metric, jump === 5 ? -1 : 1) }),
      p: () => set({ mode: "pictures" }), d: () => set({ mode: "difference" }), w: () => set({ mode: "wipe" }),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) { event.preventDefault(); action(); }
  });

  const wipe = buildPanes();
  buildControls();
  on((changed) => { syncControls(); if (changed.size) show(); });
  syncControls();
  show();
  return {
    scene, set, on, shown, make, format, metricOf, valueAt, address, by, file,
    get state() { return state; },
    stop: () => play(false),
  };
})();
