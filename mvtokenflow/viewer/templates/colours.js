// Colour tables: a ramp for depth and the wheel of flow (Baker et al., IJCV 2011), and legends of both.

const RAMP = [[253, 231, 170], [244, 169, 96], [214, 96, 77], [146, 53, 104], [76, 40, 110], [24, 22, 66]];
const WHEEL = [[15, 0], [6, 1], [4, 2], [11, 3], [13, 4], [6, 5]]; // steps of each of the six transitions

/** Bytes RGBA of `count` colours, near to far. */
function rampColours(count) {
  const bytes = new Uint8Array(4 * count);
  for (let i = 0; i < count; i++) {
    const place = (i / (count - 1)) * (RAMP.length - 1), from = Math.min(RAMP.length - 2, Math.floor(place));
    for (let k = 0; k < 3; k++) bytes[4 * i + k] = RAMP[from][k] + (RAMP[from + 1][k] - RAMP[from][k]) * (place - from);
    bytes[4 * i + 3] = 255;
  }
  return bytes;
}

/** Bytes RGBA of the wheel's 55 colours: red, yellow, green, cyan, blue, magenta and back. */
function wheelColours() {
  const bytes = [];
  for (const [steps, part] of WHEEL)
    for (let i = 0; i < steps; i++) {
      const up = Math.floor((255 * i) / steps), rise = part % 2 ? 255 - up : up, colour = [0, 0, 0];
      const full = [0, 1, 1, 2, 2, 0][part], moving = [1, 0, 2, 1, 0, 2][part];
      colour[full] = 255;
      colour[moving] = rise;
      bytes.push(...colour, 255);
    }
  return Uint8Array.from(bytes);
}

/** Draws the legend of a mode into a 2-D canvas; returns the text beside it, or "" where there is none. */
function drawLegend(canvas, mode, field, camera) {
  const { height } = canvas, width = (canvas.width = mode === "depth" ? 160 : height), context = canvas.getContext("2d");
  if (mode === "depth") {
    const bytes = rampColours(width);
    for (let x = 0; x < width; x++) {
      context.fillStyle = `rgb(${bytes[4 * x]} ${bytes[4 * x + 1]} ${bytes[4 * x + 2]})`;
      context.fillRect(x, height / 3, 1, height / 3);
    }
    const [near, far] = [-1, 1].map((side) => (camera.radius + side * field.size).toFixed(2));
    return `${near} to ${far} world units from the camera's plane`;
  }
  if (mode === "flow") {
    const wheel = wheelColours(), middle = height / 2, picture = context.createImageData(height, height);
    for (let i = 0; i < height ** 2; i++) {
      const u = ((i % height) + 0.5) / middle - 1, v = (Math.floor(i / height) + 0.5) / middle - 1, far = Math.hypot(u, v);
      const hue = Math.round(((Math.atan2(-v, -u) / Math.PI + 1) / 2) * 54);
      for (let k = 0; k < 3; k++) picture.data[4 * i + k] = 255 - far * (255 - wheel[4 * hue + k]);
      picture.data[4 * i + 3] = far <= 1 ? 255 : 0;
    }
    context.putImageData(picture, 0, 0);
    return `motion to the next frame; the rim is ${rimOf(field, camera).toFixed(1)} pixels here`;
  }
  return { normals: "colours are (n + 1) / 2 of world normals, where alpha is at least .9", alpha: "white is opaque" }[mode] || "";
}

/** Length in pixels of motion with full colour. */
function rimOf(field, camera) { return Math.max(0.5, field.step * camera.focal / (camera.pinhole ? camera.radius : 1)); }
