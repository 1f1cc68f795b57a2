// Where control points and Gaussians are at a (fractional) frame, and the order from near to far.

const POSE_TEXELS = 6; // of a control point: shift; three rows of R − 1; quaternion; scaling

/** The stored frame before a place in time and the fraction of the interval after it. */
function interval(field, place) {
  if (field.frames < 2) return { frame: 0, fraction: 0 };
  if (!field.linked) return { frame: Math.min(field.frames - 1, Math.round(place)), fraction: 0 };
  const frame = Math.min(field.frames - 2, Math.max(0, Math.floor(place)));
  return { frame, fraction: Math.min(1, Math.max(0, place - frame)) };
}

/** Raw motion of a control point between frames, by cubics through four of them, into `out`. */
function mixMotion({ motion, frames, nodes_count: nodes }, node, frame, f, out) {
  const across = out.length * nodes;
  for (let i = 0; i < out.length; i++) {
    const at = frame * across + node * out.length + i, now = motion[at], next = f > 0 ? motion[at + across] : now, by = next - now;
    let was = now - motion[at - across], then = motion[at + 2 * across] - next; // steps before and after
    if (!frame) was = frames > 2 ? 2 * by - then : by;
    if (frame + 3 > frames) then = 2 * by - was;
    out[i] = now + f * (by + 0.5 * (1 - f) * ((1 - f) * (was - by) + f * (by - then)));
  }
}

/**
 * Texels of all control points (6 × RGBA each), and their positions.
 * A Gaussian at x moves to x + Σ w (A x + s), with A = R − 1 and s = translation − A n.
 */
function poseOf(field, frame, fraction) {
  const count = field.nodes_count, residual = field.rotation === "residual";
  const raw = new Float64Array(residual ? 14 : 10);
  const texels = new Float32Array(count * POSE_TEXELS * 4), places = new Float32Array(count * 3);
  for (let node = 0; node < count; node++) {
    mixMotion(field, node, frame, fraction, raw);
    const at = node * POSE_TEXELS * 4, n = field.nodes.subarray(3 * node, 3 * node + 3);
    const rows = field.local_frame ? turnMinusOne(raw[3] + 1, raw[4], raw[5], raw[6]) : NO_TURN;
    for (let i = 0; i < 3; i++) {
      const row = rows.slice(3 * i, 3 * i + 3);
      texels[at + i] = raw[i] - (row[0] * n[0] + row[1] * n[1] + row[2] * n[2]);
      texels.set(row, at + 4 + 4 * i);
      texels[at + 20 + i] = raw[7 + i];
      places[3 * node + i] = n[i] + raw[i];
    }
    for (let i = 0; i < 4; i++) texels[at + 16 + i] = raw[(residual ? 10 : 3) + i];
  }
  return { texels, places };
}

const NO_TURN = new Float64Array(9);

/** R − 1 of a quaternion of any length, row by row. */
function turnMinusOne(w, x, y, z) {
  const length = Math.max(Math.hypot(w, x, y, z), 1e-12);
  w /= length; x /= length; y /= length; z /= length;
  return Float64Array.of(
    -2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), -2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), -2 * (x * x + y * y),
  );
}

/** Camera z of every Gaussian but for a constant, along `ahead` (world). */
function depthsOf(field, frame, fraction, pose, ahead) {
  const [ax, ay, az] = ahead, count = field.counts[field.skinned ? 0 : frame], depths = new Float32Array(count);
  const { means } = field;
  if (!field.skinned) {
    const early = 3 * field.starts[frame], late = fraction > 0 ? 3 * field.starts[frame + 1] : early;
    for (let i = 0; i < count; i++)
      for (let k = 0; k < 3; k++)
        depths[i] += ahead[k] * (means[early + 3 * i + k] * (1 - fraction) + means[late + 3 * i + k] * fraction);
    return depths;
  }
  const near = nodeDepths(pose, ahead), { neighbours, indices, weights } = field;
  for (let i = 0; i < count; i++) {
    const x = means[3 * i], y = means[3 * i + 1], z = means[3 * i + 2];
    let depth = ax * x + ay * y + az * z;
    for (let k = i * neighbours; k < (i + 1) * neighbours; k++) {
      const node = 4 * indices[k];
      depth += weights[k] * (near[node] * x + near[node + 1] * y + near[node + 2] * z + near[node + 3]);
    }
    depths[i] = depth;
  }
  return depths;
}

/** For every control point the row `ahead · A` and `ahead · s`. */
function nodeDepths(pose, ahead) {
  const count = pose.places.length / 3, near = new Float32Array(4 * count);
  for (let node = 0; node < count; node++) {
    const at = node * POSE_TEXELS * 4;
    for (let row = 0; row < 3; row++) {
      for (let k = 0; k < 3; k++) near[4 * node + k] += ahead[row] * pose.texels[at + 4 + 4 * row + k];
      near[4 * node + 3] += ahead[row] * pose.texels[at + row];
    }
  }
  return near;
}

/** Indices from the nearest to the farthest: a counting sort of 16 bits. */
function nearestFirst(depths) {
  let low = Infinity, high = -Infinity;
  for (const depth of depths) {
    if (depth < low) low = depth;
    if (depth > high) high = depth;
  }
  const scale = high > low ? 65535 / (high - low) : 0;
  const keys = new Uint16Array(depths.length), starts = new Uint32Array(65537), order = new Uint32Array(depths.length);
  for (let i = 0; i < depths.length; i++) {
    keys[i] = (depths[i] - low) * scale;
    starts[keys[i] + 1]++;
  }
  for (let key = 0; key < 65536; key++) starts[key + 1] += starts[key];
  for (let i = 0; i < depths.length; i++) order[starts[keys[i]]++] = i;
  return order;
}
