// One picture of the page: which fields, where on the canvas, from which cameras; control points above it.

const BACKGROUNDS = { white: [1, 1, 1], grey: [0.5, 0.5, 0.5], black: [0, 0, 0] };
const TRAIL = 6; // frames
const FALLS = new Set(["depth", "normals", "flow"]); // modes that need a floating-point target

/** Parts of a canvas of width × height pixels: a box (x, y from above, width, height) for each pane. */
function panesOf(layout, width, height) {
  if (layout !== "side") return Array(layout === "wipe" ? 2 : 1).fill([0, 0, width, height]);
  if (height > 1.2 * width) return [0, 1].map((i) => [0, i * Math.floor(height / 2), width, Math.floor(height / 2)]);
  return [0, 1].map((i) => [i * Math.floor(width / 2), 0, Math.floor(width / 2), height]);
}

/** The camera of a pane of width × height pixels; linked panes have one place. */
function cameraIn(state, pane, field, width, height) {
  return cameraOf(state.places[pane] || state.places[0], state.camera === "pinhole", field.size, width, height);
}

/** Draws the state's panes; `fields` are those of A and B, `fast` gives up exactness for speed. */
function drawView(renderer, state, fields, { fast = false, precision } = {}) {
  const { canvas } = renderer, boxes = panesOf(state.layout, canvas.width, canvas.height);
  const phone = matchMedia("(pointer: coarse)").matches && state.show === "colour" && renderer.precision === "float32";
  boxes.forEach((box, pane) => {
    const field = fields[pane], [x, top, width, height] = box;
    const camera = cameraIn(state, pane, field, width, height);
    const y = canvas.height - top - height, edge = state.layout === "wipe" && pane ? Math.round(state.split * width) : 0;
    const drawn = renderer.accumulate(`pane ${pane}`, field, placeIn(field, state, fields[0]), camera, {
      plain: state.filter === "plain", most: fast ? 1 : MOST_SAMPLES, geometry: FALLS.has(state.show),
      precision: precision || (phone ? "float16" : renderer.precision),
    });
    renderer.display(drawn, field, camera, state.show, BACKGROUNDS[state.bg], [x, y], [x + edge, y, width - edge, height]);
  });
}

/** The (fractional) frame of a field at the state's time, which counts frames of A. */
function placeIn(field, state, first) {
  if (field === first) return Math.min(state.t, field.frames - 1);
  const time = timeAt(first, state.t), { times } = field, found = times.findIndex((one) => one >= time);
  const after = found < 0 ? times.length - 1 : found;
  return after ? after - 1 + (time - times[after - 1]) / (times[after] - times[after - 1]) : 0;
}

/** Time in [0, 1] at a (fractional) frame. */
function timeAt(field, place) {
  const frame = Math.min(field.frames - 1, Math.floor(place)), next = Math.min(field.frames - 1, frame + 1);
  return field.times[frame] + (field.times[next] - field.times[frame]) * (place - frame);
}

/** Control points with their last frames, the names of panes, and the edge of the wipe. */
function drawOver(canvas, ratio, state, fields, labels) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  panesOf(state.layout, canvas.width, canvas.height).forEach((box, pane) => {
    const [x, y, width, height] = box, field = fields[pane];
    const edge = state.split * width;
    context.save();
    context.beginPath();
    if (state.layout === "wipe") context.rect(pane ? x + edge : x, y, pane ? width - edge : edge, height);
    else context.rect(...box);
    context.clip();
    context.translate(x, y);
    if (state.points && field.skinned)
      drawPoints(context, ratio, field, cameraIn(state, pane, field, width, height), placeIn(field, state, fields[0]));
    context.restore();
    if (state.layout !== "one") nameOf(context, ratio, labels[pane], box, state.layout === "wipe" && pane === 1, state.bg);
  });
  if (state.layout !== "wipe") return;
  context.fillStyle = "rgb(10 90 135)";
  context.fillRect(state.split * canvas.width - ratio, 0, 2 * ratio, canvas.height);
}

function drawPoints(context, ratio, field, camera, place) {
  const stops = [place];
  for (let frame = Math.ceil(place) - 1; frame >= Math.max(0, Math.ceil(place) - TRAIL); frame--) stops.unshift(frame);
  const lines = stops.map((stop) => {
    const { frame, fraction } = interval(field, stop), { places } = poseOf(field, frame, fraction);
    return Array.from({ length: field.nodes_count }, (_, i) => projected(camera, places.subarray(3 * i, 3 * i + 3)));
  });
  context.lineWidth = ratio;
  for (let i = 0; i < field.nodes_count; i++) {
    const hue = (i * 137.5) % 360, [x, y, z] = lines[lines.length - 1][i];
    if (z < 0.01) continue;
    context.strokeStyle = context.fillStyle = `hsl(${hue} 80% 42%)`;
    context.beginPath();
    lines.forEach(([px, py], k) => (k ? context.lineTo(px, py) : context.moveTo(px, py)));
    context.stroke();
    context.beginPath();
    context.arc(x, y, 2.5 * ratio, 0, 7);
    context.fill();
  }
}

function nameOf(context, ratio, label, [x, y, width], right, background) {
  context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
  context.textAlign = right ? "right" : "left";
  context.textBaseline = "top";
  context.fillStyle = background === "black" ? "#fff" : "#1d1b18";
  const gap = 10 * ratio;
  context.fillText(label, right ? x + width - gap : x + gap, y + gap, width / 2 - 14 * ratio);
}
