// Draws fields: accumulates Gaussians front to back in a floating-point target, averages samples, and colours.

const MOST_SAMPLES = 16, MOST_PIXELS = 4096, LOW_PASS = 0.3, TRIANGLES = [0, 1, 2, 1, 2, 3];
const TARGETS = { float32: ["RGBA32F", "FLOAT"], float16: ["RGBA16F", "HALF_FLOAT"], bytes: ["RGBA8", "UNSIGNED_BYTE"] };

const SETTERS = { FLOAT: "1fv", INT: "1iv", BOOL: "1iv", FLOAT_VEC2: "2fv", FLOAT_VEC3: "3fv", INT_VEC2: "2iv" };

/** The widest target that this device blends into. */
function widestTarget(gl) {
  const float = gl.getExtension("EXT_color_buffer_float"), blends = gl.getExtension("EXT_float_blend");
  if (float && blends) return "float32";
  return float || gl.getExtension("EXT_color_buffer_half_float") ? "float16" : "bytes";
}

/** How a picture shows the training pixel's low-pass; see `field._low_passed`. */
function lowPassOf(field, camera, plain, most) {
  if (plain || field.pixel === null) return { samples: 1, world: 0, pixels: LOW_PASS };
  const wanted = Math.max(1, Math.ceil(camera.pixel / field.pixel - 1e-3));
  const samples = Math.max(1, Math.min(wanted, most, Math.floor(MOST_PIXELS / Math.max(camera.width, camera.height))));
  return { samples, world: LOW_PASS * field.pixel ** 2, pixels: samples === wanted ? 0 : LOW_PASS };
}

class Renderer {
  constructor(canvas) {
    this.canvas = canvas;
    const options = { alpha: false, antialias: false, depth: false, preserveDrawingBuffer: true };
    this.gl = canvas.getContext("webgl2", options);
    if (!this.gl) throw new Error("this browser gives no WebGL 2");
    this.begin();
  }

  /** Builds everything that belongs to the context; called again after the context was lost. */
  begin() {
    const { gl } = this;
    this.precision = widestTarget(gl);
    [this.programs, this.targets, this.loaded] = [new Map(), new Map(), new Map()];
    this.ramp = this.strip(rampColours(256));
    this.wheel = this.strip(wheelColours());
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer()); // the order
    this.empty = this.table(new Float32Array(4));
  }

  program(name, vertex, fragment, defines = []) {
    const key = [name, ...defines].join(" ");
    if (this.programs.has(key)) return this.programs.get(key);
    const { gl } = this, program = gl.createProgram();
    const head = `#version 300 es\nprecision highp float;\nprecision highp int;\nprecision highp sampler2D;\n`;
    for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, head + defines.map((one) => `#define ${one}\n`).join("") + source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const said = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`the ${name} shaders do not work: ${[...said, gl.getProgramInfoLog(program)].join(" ")}`);
    }
    const places = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const { name: uniform, type } = gl.getActiveUniform(program, i);
      places[uniform] = { place: gl.getUniformLocation(program, uniform), type };
    }
    const made = { program, places };
    this.programs.set(key, made);
    return made;
  }

  /** Uses a program with values of its uniforms; textures take units in the order in which they come. */
  use({ program, places }, values) {
    const { gl } = this;
    let unit = 0;
    gl.useProgram(program);
    for (const [name, { place, type }] of Object.entries(places)) {
      const value = values[name];
      if (type === gl.SAMPLER_2D) {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, value || this.empty);
        gl.uniform1i(place, unit++);
      } else if (type === gl.FLOAT_MAT3) gl.uniformMatrix3fv(place, false, value);
      else gl["uniform" + SETTERS[Object.keys(SETTERS).find((one) => gl[one] === type)]](place, [value].flat());
    }
  }

  texture(width, height, format, type, data, filter = "NEAREST") {
    const { gl } = this, made = gl.createTexture();
    const limit = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (Math.max(width, height) > limit) throw new Error(`a table of ${width} x ${height} texels; this device takes ${limit}`);
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl[format], width, height, 0, gl.RGBA, gl[type], data);
    const ways = { MIN_FILTER: filter, MAG_FILTER: filter, WRAP_S: "CLAMP_TO_EDGE", WRAP_T: "CLAMP_TO_EDGE" };
    for (const [name, way] of Object.entries(ways)) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl[way]);
    return made;
  }

  /** A texture of texels RGBA32F that the shaders address by one index. */
  table(texels) {
    const rows = Math.max(1, Math.ceil(texels.length / 4 / ACROSS)), whole = new Float32Array(rows * ACROSS * 4);
    whole.set(texels);
    return this.texture(ACROSS, rows, "RGBA32F", "FLOAT", whole);
  }

  strip(bytes) { return this.texture(bytes.length / 4, 1, "RGBA8", "UNSIGNED_BYTE", bytes, "LINEAR"); }

  /** Textures of a field's Gaussians at a stored frame, made once and kept for the last few frames. */
  still(field, frame) {
    const kept = this.kept(field), name = field.skinned ? 0 : frame;
    if (!kept.stills.has(name)) {
      if (kept.stills.size > 3) {
        const [oldest] = kept.stills.keys();
        this.gl.deleteTexture(kept.stills.get(oldest));
        kept.stills.delete(oldest);
      }
      kept.stills.set(name, this.table(stillTexels(field, name)));
    }
    return kept.stills.get(name);
  }

  kept(field) {
    if (!this.loaded.has(field)) {
      const own = !field.linked && !field.skinned;
      this.loaded.set(field, { stills: new Map(), harmonics: field.sh && !own ? this.table(harmonicTexels(field, 0)) : null });
    }
    return this.loaded.get(field);
  }

  /** A target of two attachments; the one of that name is reused while it has the size and precision. */
  target(name, width, height, precision) {
    const { gl } = this, kept = this.targets.get(name), shape = [width, height, precision].join();
    if (kept && kept.shape === shape) return kept;
    if (kept) {
      for (const one of kept.textures) gl.deleteTexture(one);
      gl.deleteFramebuffer(kept.buffer);
    }
    const [format, type] = TARGETS[precision], buffer = gl.createFramebuffer();
    const textures = [0, 1].map(() => this.texture(width, height, format, type, null));
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
    textures.forEach((one, i) => gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, one, 0));
    const made = { width, height, shape, buffer, textures };
    this.targets.set(name, made);
    return made;
  }

  /** Directs drawing into a target, whose second attachment is left alone without `geometry`. */
  into(name, width, height, precision, geometry) {
    const { gl } = this, target = this.target(name, width, height, precision);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.buffer);
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, geometry ? gl.COLOR_ATTACHMENT1 : gl.NONE]);
    gl.viewport(0, 0, width, height);
    return target;
  }

  /** Draws a field into a target: colours, and with `geometry` depth and flow; premultiplied by alpha. */
  accumulate(name, field, place, camera, { plain = false, most = MOST_SAMPLES, geometry = false, precision = this.precision } = {}) {
    const { gl } = this, low = lowPassOf(field, camera, plain, most), { samples } = low;
    const width = camera.width * samples, height = camera.height * samples;
    const target = this.into(`${name} samples`, width, height, precision, geometry);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE_MINUS_DST_ALPHA, gl.ONE); // nearest first
    this.splat(field, place, camera, low, geometry);
    gl.disable(gl.BLEND);
    if (samples === 1) return { target, samples };
    const whole = this.into(name, camera.width, camera.height, precision, true);
    this.fill(this.program("average", COVER_VERTEX, AVERAGE_FRAGMENT), { colours: target.textures[0], geometries: target.textures[1], samples });
    return { target: whole, samples };
  }

  splat(field, place, camera, low, geometry) {
    const { gl } = this, { frame, fraction } = interval(field, place), { samples } = low;
    const kind = field.skinned ? "skinned" : "moments", late = fraction > 0 || (geometry && field.linked && field.frames > 1);
    const program = this.program(kind, VERTEX_HEAD + HARMONICS + MOVED[kind] + PROJECT, SPLAT_FRAGMENT, geometry ? ["GEOMETRY"] : []);
    const pose = field.skinned ? poseOf(field, frame, fraction) : null;
    const order = nearestFirst(depthsOf(field, frame, fraction, pose, camera.ahead));
    const own = [], keep = (texels) => (own.push(this.table(texels)), own[own.length - 1]);
    const poses = pose && { pose: keep(pose.texels) };
    if (pose && geometry) {
      poses.poseEarly = keep(poseOf(field, frame, 0).texels);
      poses.poseLate = keep(poseOf(field, Math.min(field.frames - 1, frame + 1), 0).texels);
    }
    this.use(program, {
      still: this.still(field, frame), later: this.still(field, late && !field.skinned ? frame + 1 : frame), ...poses,
      harmonics: this.kept(field).harmonics || (field.sh && keep(harmonicTexels(field, frame))),
      stride: strideOf(field), neighbours: field.neighbours || 0, bands: field.sh ? (field.sh_degree + 1) ** 2 : 0,
      fraction, residual: field.rotation === "residual",
      colourLow: field.colourLow, colourStep: field.colourStep,
      axes: axesOf(camera), shift: camera.shift, centre: camera.centre, size: [camera.width * samples, camera.height * samples],
      focal: camera.focal * samples, radius: camera.radius, pinhole: camera.pinhole, lowPassWorld: low.world, lowPassPixels: low.pixels,
    });
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, cornersOf(order), gl.DYNAMIC_DRAW);
    gl.drawElements(gl.TRIANGLES, 6 * order.length, gl.UNSIGNED_INT, 0);
    for (const one of own) gl.deleteTexture(one);
  }

  fill(program, values) {
    this.use(program, values);
    this.gl.drawArrays(this.gl.TRIANGLES, 0, 3);
  }

  /** Colours what was accumulated into the part `box` (x, y, width, height; y up) of the canvas. */
  display(drawn, field, camera, mode, background, corner, box) {
    const { gl } = this, { target, samples } = drawn;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(...box);
    this.fill(this.program("display", COVER_VERTEX, DISPLAY_FRAGMENT), {
      colours: target.textures[0], geometries: target.textures[1], ramp: this.ramp, wheel: this.wheel,
      corner, area: [camera.width, camera.height], mode: SHOWN[mode], background, axes: axesOf(camera),
      focal: camera.focal, radius: camera.radius, pinhole: camera.pinhole, reach: field.size,
      rim: rimOf(field, camera), samples,
    });
    gl.disable(gl.SCISSOR_TEST);
  }
}

/** Columns of the rotation to the camera's axes. */
function axesOf({ right, down, ahead }) {
  return [0, 1, 2].flatMap((i) => [right[i], down[i], ahead[i]]);
}

/** Texels of one Gaussian: centre and opacity; quaternion; scales and packed colour; pairs of index and weight. */
function strideOf(field) { return 3 + (field.skinned ? Math.ceil(field.neighbours / 2) : 0); }

function stillTexels(field, frame) {
  const start = field.skinned ? 0 : field.starts[frame], count = field.counts[field.skinned ? 0 : frame];
  const stride = 4 * strideOf(field), texels = new Float32Array(stride * count);
  const looks = field.linked ? 0 : start;
  for (let i = 0; i < count; i++) {
    const from = start + i, look = looks + i;
    texels.set(field.means.subarray(3 * from, 3 * from + 3), stride * i);
    texels[stride * i + 3] = field.opacities[look];
    texels.set(field.quats.subarray(4 * from, 4 * from + 4), stride * i + 4);
    texels.set(field.scales.subarray(3 * from, 3 * from + 3), stride * i + 8);
    if (field.colours)
      for (let k = 0; k < 3; k++)
        texels[stride * i + 11] += Math.round((field.colours[3 * look + k] - field.colourLow[k]) / field.colourStep[k]) * 256 ** k;
    if (!field.skinned) continue;
    for (let k = 0; k < field.neighbours; k++) {
      texels[stride * i + 12 + 2 * k] = field.indices[i * field.neighbours + k];
      texels[stride * i + 13 + 2 * k] = field.weights[i * field.neighbours + k];
    }
  }
  return texels;
}

/** Two triangles of the corners 4 i to 4 i + 3 of each Gaussian; software draws instances one by one. */
function cornersOf(order) {
  const corners = new Uint32Array(6 * order.length);
  for (let i = 0; i < corners.length; i++) corners[i] = 4 * order[(i / 6) | 0] + TRIANGLES[i % 6];
  return corners;
}

/** One texel for each band of each Gaussian. */
function harmonicTexels(field, frame) {
  const bands = (field.sh_degree + 1) ** 2, start = field.linked ? 0 : field.starts[frame];
  const count = field.counts[field.skinned ? 0 : frame], texels = new Float32Array(4 * bands * count);
  for (let i = 0; i < count * bands; i++) texels.set(field.sh.subarray(3 * (start * bands + i), 3 * (start * bands + i) + 3), 4 * i);
  return texels;
}
