// Scene page: curves with a cursor, views × frames maps, worst cases and clip values, all synced with the viewer.
"use strict";
(() => {
  const { scene, set, on, shown, make, format, metricOf, valueAt, address, by, file, stop } = window.report;
  const state = () => window.report.state;
  const last = Math.max(1, scene.frames - 1);

  const svg = (tag, attributes = {}, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const views = scene.views.map((view) => view.name);
  const label = (id) => scene.series.find((series) => series.id === id).label;
  const measured = () => shown().filter((series) => series.kind !== "truth");
  const arrow = { higher: "higher is better", lower: "lower is better", none: "no direction" };
  const line = (metric, id, view) => scene.values[metric]?.[id]?.[view] || [];

  // About `count` round steps between low and high.
  const ticks = (low, high, count) => {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(at);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  };
  const range = (values) => {
    const finite = values.filter(Number.isFinite);
    if (!finite.length) return null;
    const low = Math.min(...finite);
    const high = Math.max(...finite);
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - pad, high + pad];
  };
  // Positions in their order, moved apart until neighbours have `gap` between them.
  const spread = (wanted, gap, low, high) => {
    const order = wanted.map((_, place) => place).sort((a, b) => wanted[a] - wanted[b]);
    const room = Math.min(gap, (high - low) / Math.max(1, wanted.length - 1));
    const placed = [];
    order.forEach((place, rank) => {
      const least = rank ? placed[order[rank - 1]] + room : low;
      placed[place] = Math.min(Math.max(wanted[place], least), high - room * (order.length - 1 - rank));
    });
    return placed;
  };

  // ---- curves ------------------------------------------------------------------------------------
  let cursor = () => {};
  const drawCurves = () => {
    const { metric, view } = state();
    const head = metricOf();
    const chart = by("chart");
    cursor = () => {};
    by("curves-caption").textContent = head ? `${head.title} on ${view}, ${arrow[head.better]}. ${head.signature}` : "";
    const lines = measured().map((series) => ({ series, values: line(metric, series.id, view) })).filter((one) => one.values.some((value) => value !== null));
    // Known answers may be far away (equal pictures have the PSNR at which it is capped): measured rows make the range.
    const own = lines.filter((one) => one.series.kind === "measured");
    const span = range((own.length ? own : lines).flatMap((one) => one.values));
    if (!lines.length) {
      chart.replaceChildren(make("p", { class: "soft" }, head ? `${head.title} was not measured frame by frame on ${view}.` : "Nothing was measured frame by frame."));
      return;
    }
    const [low, high] = span || [0, 1];
    if (lines.some((one) => one.values.some((value) => value !== null && !(value >= low && value <= high)))) {
      by("curves-caption").append(" Values outside the range of measured rows are drawn at its edge.");
    }
    const width = Math.max(260, chart.clientWidth);
    const height = Math.round(Math.min(320, Math.max(200, width * 0.36)));
    const { found, digits } = ticks(low, high, 4);
    const left = 14 + 7.2 * Math.max(...found.map((at) => at.toFixed(digits).length), 2);
    const longest = Math.max(...lines.map((one) => one.series.label.length));
    const names = width > 520 ? Math.min(width * 0.28, 24 + 6.6 * longest) : 10; // beside the curves, if there is room
    const box = { left, right: width - names, top: 18, bottom: height - 26 };
    const x = (frame) => box.left + ((box.right - box.left) * frame) / last;
    const y = (value) => {
      if (value === "inf" || value > high) return 6;
      if (value === "-inf" || value < low) return box.bottom + 6;
      return box.bottom - ((box.bottom - box.top) * (value - low)) / (high - low);
    };
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${head.title} per frame on ${view}` });
    for (const at of found) {
      drawing.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(at), y2: y(at) }),
        svg("text", { class: "tick", x: box.left - 7, y: y(at) + 4, "text-anchor": "end" }, at.toFixed(digits).replace("-", "−")));
    }
    const steps = ticks(0, last, Math.min(8, width / 70)).found.filter(Number.isInteger);
    for (const at of steps) drawing.append(svg("text", { class: "tick", x: x(at), y: height - 8, "text-anchor": "middle" }, String(at)));
    if (lines.some((one) => one.values.includes("inf"))) drawing.append(svg("text", { class: "tick", x: box.left - 7, y: 10, "text-anchor": "end" }, "∞"));
    for (const { series, values } of lines) {
      let pen = "M";
      let path = "";
      values.forEach((value, frame) => {
        if (value === null) { pen = "M"; return; }
        path += `${pen}${x(frame).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      });
      drawing.append(svg("path", { class: `curve ${series.kind}${series.color > 9 ? " dash" : ""}`, d: path, style: `--c: var(--c${series.color % 10})`, "data-series": series.id }));
    }
    const ends = lines.map(({ values }) => values.findLastIndex((value) => value !== null));
    const levels = spread(lines.map(({ values }, place) => y(values[ends[place]])), 14, 8, box.bottom + 6);
    if (names > 10) {
      lines.forEach(({ series, values }, place) => {
        const at = x(ends[place]);
        drawing.append(
          svg("path", { class: `lead ${series.kind}`, d: `M${at} ${y(values[ends[place]])}L${box.right + 10} ${levels[place]}`, style: `--c: var(--c${series.color % 10})` }),
          svg("text", { class: `tick name ${series.kind}`, x: box.right + 14, y: levels[place] + 4 }, series.label));
      });
    }
    const rule = svg("line", { class: "cursor", y1: 4, y2: box.bottom });
    const dots = svg("g");
    drawing.append(rule, dots);
    cursor = () => {
      const { frame } = state();
      rule.setAttribute("x1", x(frame));
      rule.setAttribute("x2", x(frame));
      drawing.dataset.frame = frame;
      dots.replaceChildren(...lines.filter((one) => (one.values[frame] ?? null) !== null).map(({ series, values }) =>
        svg("circle", { class: `dot ${series.kind}`, cx: x(frame), cy: y(values[frame]), r: 3.5, style: `--c: var(--c${series.color % 10})` })));
    };
    const scrub = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const at = ((event.clientX - drawing.getBoundingClientRect().left - box.left) / (box.right - box.left)) * last;
      stop();
      set({ frame: Math.min(scene.frames - 1, Math.max(0, Math.round(at))) });
    };
    drawing.addEventListener("pointerdown", scrub);
    drawing.addEventListener("pointermove", scrub);
    cursor();
    chart.replaceChildren(drawing, make("p", { class: "axis" }, "frame"));
  };

  // ---- maps --------------------------------------------------------------------------------------
  // One scale for all methods. Darker is worse; where no direction is better, darker is larger.
  let outlines = [];
  const drawMaps = () => {
    const { metric } = state();
    const head = metricOf();
    outlines = [];
    const rows = measured().filter((series) => scene.values[metric]?.[series.id]);
    const finite = rows.flatMap((series) => views.flatMap((view) => line(metric, series.id, view))).filter(Number.isFinite);
    if (!head || !rows.length) { by("maps").replaceChildren(); by("heat-scale").replaceChildren(make("p", { class: "soft" }, "Nothing was measured frame by frame.")); return; }
    const low = finite.length ? Math.min(...finite) : 0;
    const high = finite.length ? Math.max(...finite) : 1;
    const flip = head.better === "higher";
    const shade = (value) => {
      const at = value === "inf" ? 1 : value === "-inf" ? 0 : high > low ? (value - low) / (high - low) : 0;
      return flip ? 1 - at : at;
    };
    const ends = flip ? [high, low] : [low, high];
    const words = head.better === "none" ? ["", ""] : ["better ", " worse"];
    by("heat-scale").replaceChildren(make("span", {}, `${words[0]}${format(head, ends[0])}`), make("span", { class: "ramp" }), make("span", {}, `${format(head, ends[1])}${words[1]}`), make("output", { id: "heat-at" }, head.title));
    by("maps").replaceChildren(...rows.map((series) => drawMap(head, series, shade)));
    outline();
  };

  const drawMap = (head, series, shade) => {
    const across = scene.frames;
    const drawing = svg("svg", { viewBox: `0 0 ${across} ${views.length}`, preserveAspectRatio: "none", role: "img", "aria-label": `${head.title} of ${series.label} by view and frame`, style: `height: ${views.length * 1.15}rem` });
    views.forEach((view, down) => line(head.id, series.id, view).forEach((value, frame) => {
      if (value !== null) drawing.append(svg("rect", { x: frame, y: down, width: 1.02, height: 1.02, style: `--v: ${(100 * shade(value)).toFixed(1)}%` }));
    }));
    const frameMark = svg("rect", { class: "here", width: 1, height: 1 });
    drawing.append(frameMark);
    outlines.push(frameMark);
    const under = (event) => {
      const edge = drawing.getBoundingClientRect();
      const frame = Math.min(across - 1, Math.max(0, Math.floor(((event.clientX - edge.left) / edge.width) * across)));
      const down = Math.min(views.length - 1, Math.max(0, Math.floor(((event.clientY - edge.top) / edge.height) * views.length)));
      return { frame, view: views[down] };
    };
    drawing.addEventListener("click", (event) => { stop(); set(under(event)); });
    drawing.addEventListener("pointermove", (event) => {
      const { frame, view } = under(event);
      by("heat-at").textContent = `${series.label}, ${view}, frame ${frame}: ${format(head, valueAt(head.id, series.id, view, frame)) || "not measured"}`;
    });
    const names = make("div", { class: "rows", "aria-hidden": "true" }, ...views.map((view) => make("span", {}, view)));
    const caption = make("figcaption", {}, make("span", { class: `swatch ${series.kind}`, style: `--c: var(--c${series.color % 10})` }), series.label);
    return make("figure", {}, caption, make("div", { class: "map" }, names, drawing));
  };
  const outline = () => {
    for (const mark of outlines) {
      mark.setAttribute("x", state().frame);
      mark.setAttribute("y", views.indexOf(state().view));
    }
  };

  // ---- worst cases -------------------------------------------------------------------------------
  const COUNT = 12;
  const drawWorst = () => {
    const { metric } = state();
    const head = metricOf();
    by("worst").hidden = !head || head.better === "none";
    if (by("worst").hidden) return;
    const asked = by("worst-of").value;
    const pool = measured().filter((series) => (asked ? series.id === asked : series.kind === "measured"));
    const worse = head.better === "lower" ? (a, b) => b.value - a.value : (a, b) => a.value - b.value;
    const cases = [];
    for (const series of pool) {
      for (const view of views) {
        const values = line(metric, series.id, view).map((value, frame) => ({ series, view, frame, text: value, value: Number(value === "inf" ? Infinity : value === "-inf" ? -Infinity : value ?? NaN) }));
        const worst = values.filter((one) => !Number.isNaN(one.value)).sort(worse)[0];
        if (worst) cases.push(worst); // one for each method and view: neighbours in time look alike
      }
    }
    cases.sort(worse);
    by("worst-caption").textContent = cases.length
      ? `by ${head.title}; the worst frame of each method and view.`
      : `have no values of ${head.title} frame by frame; choose another row or metric.`;
    by("cases").replaceChildren(...cases.slice(0, COUNT).map((one) => drawCase(head, one)));
  };
  const drawCase = (head, { series, view, frame, text }) => {
    const pair = make("span", { class: "pair" });
    for (const id of [series.id, "gt"]) {
      const name = file(id, view, frame);
      const size = scene.pictures[view][id].size;
      pair.append(name
        ? make("img", { src: `../pictures/${name}`, width: size[0], height: size[1], loading: "lazy", alt: `${label(id)}, ${view}, frame ${frame}`, ...(size[0] < 200 ? { class: "pixels" } : {}) })
        : make("span", { class: "nothing" }, "no picture"));
    }
    const link = make("a", { href: address({ view, frame, mode: "pictures" }) }, pair, make("strong", {}, format(head, text)));
    return make("li", {}, link, make("small", {}, `${series.label} · ${view} · frame ${frame}`));
  };
  by("cases").addEventListener("click", (event) => {
    if (event.target.closest("a")) { stop(); by("viewer").scrollIntoView({ block: "start" }); }
  });
  by("worst-of").append(make("option", { value: "" }, "all measured methods"),
    ...scene.series.filter((series) => series.kind !== "truth").map((series) => make("option", { value: series.id }, series.label)));
  by("worst-of").addEventListener("change", drawWorst);

  // ---- clip values -------------------------------------------------------------------------------
  const drawClips = () => {
    by("clips").hidden = !scene.clips.length;
    if (!scene.clips.length) return;
    const heads = new Map();
    for (const { metric, view } of scene.clips) heads.set(JSON.stringify([metric, view]), { metric: metricOf(metric), view });
    const mark = { higher: " ↑", lower: " ↓", none: "" };
    const head = make("tr", {}, make("th", { scope: "col" }, "Method"),
      ...[...heads.values()].map(({ metric, view }) => make("th", { scope: "col", title: metric.signature }, `${metric.title}${mark[metric.better]}`, make("small", {}, view))));
    const rows = scene.series.filter((series) => scene.clips.some((one) => one.series === series.id)).map((series) =>
      make("tr", {}, make("th", { scope: "row" }, series.label), ...[...heads.values()].map(({ metric, view }) => {
        const found = scene.clips.find((one) => one.series === series.id && one.metric === metric.id && one.view === view);
        return make("td", {}, found ? format(metric, found.value) : "—");
      })));
    by("clip-table").replaceChildren(make("table", { class: "numbers" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  };

  on((changed) => {
    const any = (...names) => names.some((name) => changed.has(name));
    if (any("metric", "hide")) { drawMaps(); drawWorst(); }
    if (any("metric", "hide", "view")) drawCurves();
    if (any("frame", "view")) { cursor(); outline(); }
  });
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.round(entry.contentRect.width) === width) return;
    width = Math.round(entry.contentRect.width);
    requestAnimationFrame(drawCurves); // drawing here would resize the chart while its size is being observed
  }).observe(by("chart"));
  drawMaps();
  drawWorst();
  drawClips();
  document.documentElement.dataset.charts = "ready";
})();
