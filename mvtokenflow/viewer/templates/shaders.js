// The shaders: projection and blending of Gaussians, averaging of samples, and display.

const ACROSS = 2048; // texels in a row of the data textures

const VERTEX_HEAD = `
uniform sampler2D still, later, pose, poseEarly, poseLate, harmonics;
uniform int stride, neighbours, bands;
uniform float fraction;
uniform bool residual;
uniform vec3 colourLow, colourStep;
uniform mat3 axes;       // rows: right, down, ahead
uniform vec3 shift, centre;
uniform vec2 size;       // pixels
uniform float focal, radius, lowPassWorld, lowPassPixels;
uniform bool pinhole;
flat out vec3 conic;
flat out vec2 middle;
flat out vec4 look;
flat out vec3 carried;

struct Moved { vec3 mean; vec4 quat; vec3 scale; float opacity; float colour; vec3 ahead; };

vec4 at(sampler2D table, int index) { return texelFetch(table, ivec2(index % ${ACROSS}, index / ${ACROSS}), 0); }

vec4 product(vec4 p, vec4 q) { // Hamilton's, wxyz
  return vec4(p.x * q.x - dot(p.yzw, q.yzw), p.x * q.yzw + q.x * p.yzw + cross(p.yzw, q.yzw));
}

mat3 rotation(vec4 q) { // columns are the turned axes
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
              2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
              2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}
`;

// Spherical harmonics in the order and signs of 3DGS; band 0 is one number.
const HARMONICS = `
vec3 harmonic(int index, int count, vec3 d) {
  float x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  float basis[16];
  basis[0] = 0.282094792;
  basis[1] = -0.488602512 * y; basis[2] = 0.488602512 * z; basis[3] = -0.488602512 * x;
  basis[4] = 1.09254843 * x * y; basis[5] = -1.09254843 * y * z;
  basis[6] = 0.315391565 * (2.0 * zz - xx - yy);
  basis[7] = -1.09254843 * x * z; basis[8] = 0.546274215 * (xx - yy);
  basis[9] = -0.59004359 * y * (3.0 * xx - yy); basis[10] = 2.89061144 * x * y * z;
  basis[11] = -0.457045799 * y * (4.0 * zz - xx - yy);
  basis[12] = 0.373176333 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy);
  basis[13] = -0.457045799 * x * (4.0 * zz - xx - yy); basis[14] = 1.44530572 * z * (xx - yy);
  basis[15] = -0.59004359 * x * (xx - 3.0 * yy);
  vec3 sum = vec3(0.5);
  for (int band = 0; band < count; band++) sum += basis[band] * at(harmonics, index * count + band).rgb;
  return max(sum, 0.0);
}
`;

// Gives: moved centre, unit quaternion, scales, opacity, packed colour, and the displacement to the next frame.
const MOVED = {
  skinned: `
vec3 carry(sampler2D table, int node, vec3 x) {
  vec3 turned = vec3(dot(at(table, node + 1).xyz, x), dot(at(table, node + 2).xyz, x), dot(at(table, node + 3).xyz, x));
  return at(table, node).xyz + turned;
}
Moved moved(int index) {
  int start = index * stride;
  vec4 first = at(still, start), raw = at(still, start + 1), third = at(still, start + 2);
  vec3 mean = first.xyz, by = vec3(0.0), grow = vec3(0.0), ahead = vec3(0.0);
  vec4 turn = vec4(0.0);
  for (int k = 0; k < neighbours; k++) {
    vec4 pair = at(still, start + 3 + k / 2);
    vec2 entry = k % 2 == 0 ? pair.xy : pair.zw; // index, weight
    int node = int(entry.x) * ${POSE_TEXELS};
    by += entry.y * carry(pose, node, mean);
    turn += entry.y * at(pose, node + 4);
    grow += entry.y * at(pose, node + 5).xyz;
#ifdef GEOMETRY
    ahead += entry.y * (carry(poseLate, node, mean) - carry(poseEarly, node, mean));
#endif
  }
  vec4 quat = normalize(residual ? raw + turn : product(turn + vec4(1.0, 0.0, 0.0, 0.0), normalize(raw)));
  return Moved(mean + by, quat, abs(third.xyz + grow), first.w, third.w, ahead);
}`,
  moments: `
Moved moved(int index) {
  int start = index * stride;
  vec4 first = at(still, start), quat = at(still, start + 1), third = at(still, start + 2);
  vec4 next = at(later, start), nextQuat = at(later, start + 1), nextThird = at(later, start + 2);
  if (dot(quat, nextQuat) < 0.0) nextQuat = -nextQuat;
  return Moved(mix(first.xyz, next.xyz, fraction), normalize(mix(quat, nextQuat, fraction)),
               mix(third.xyz, nextThird.xyz, fraction), first.w, third.w, next.xyz - first.xyz);
}`,
};

const PROJECT = `
vec3 unpacked(float colour) {
  int bits = int(colour); // whole, below 2^24
  return colourLow + colourStep * vec3(float(bits & 255), float(bits >> 8 & 255), float(bits >> 16));
}

void main() {
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0); // outside, unless all tests pass
  int index = gl_VertexID / 4;
  Moved one = moved(index);
  vec3 p = axes * one.mean + shift;
  if (!(p.z >= 0.01) || one.opacity < 1.0 / 255.0) return;
  vec2 edge = 0.65 * size / focal, bounded = clamp(p.xy / p.z, -edge, edge);
  float scale = pinhole ? focal / p.z : focal;
  vec2 slant = pinhole ? scale * bounded : vec2(0.0);
  mat3 rows = transpose(axes);
  vec3 ahead = rows[2], across = scale * rows[0] - slant.x * ahead, down = scale * rows[1] - slant.y * ahead;
  vec3 sides = sqrt(one.scale * one.scale + lowPassWorld);
  mat3 spread = rotation(one.quat);
  vec3 tx = (across * spread) * sides, ty = (down * spread) * sides;
  float xx = dot(tx, tx) + lowPassPixels, yy = dot(ty, ty) + lowPassPixels, xy = dot(tx, ty);
  float det = xx * yy - xy * xy;
  if (!(det > 0.0)) return;
  float reach = min(3.33, sqrt(2.0 * log(255.0 * one.opacity)));
  float mean = 0.5 * (xx + yy), apart = length(vec2(0.5 * (xx - yy), xy));
  vec2 axis = vec2(xy, mean + apart - xx);
  if (dot(axis, axis) <= 1e-12 * apart * apart) axis = vec2(1.0, 0.0);
  axis = normalize(axis);
  float longer = reach * sqrt(mean + apart) + 0.05, shorter = reach * sqrt(max(mean - apart, 0.0)) + 0.05;
  vec2 corner = vec2(gl_VertexID % 2, gl_VertexID / 2 % 2) * 2.0 - 1.0;
  middle = p.xy * scale + 0.5 * size;
  vec2 place = middle + axis * (longer * corner.x) + vec2(-axis.y, axis.x) * (shorter * corner.y);
  gl_Position = vec4((place / size * 2.0 - 1.0) * vec2(1.0, -1.0), 0.0, 1.0);
  conic = vec3(yy, -xy, xx) / det;
  vec3 seen = pinhole ? normalize(one.mean - centre) : ahead;
  look = vec4(bands > 0 ? harmonic(index, bands, seen) : unpacked(one.colour), one.opacity);
#ifdef GEOMETRY
  vec3 then = axes * (one.mean + one.ahead) + shift;
  vec2 target = then.xy * (pinhole ? focal / max(then.z, 0.01) : focal) + 0.5 * size;
  carried = vec3(p.z - radius, target - middle);
#else
  carried = vec3(0.0);
#endif
}`;

const SPLAT_FRAGMENT = `
uniform vec2 size;
flat in vec3 conic;
flat in vec2 middle;
flat in vec4 look;
flat in vec3 carried;
layout(location = 0) out vec4 colour;
#ifdef GEOMETRY
layout(location = 1) out vec4 geometry;
#endif
void main() {
  vec2 d = middle - vec2(gl_FragCoord.x, size.y - gl_FragCoord.y);
  float power = 0.5 * (conic.x * d.x * d.x + conic.z * d.y * d.y) + conic.y * d.x * d.y;
  float alpha = min(0.999, look.a * exp(-power));
  if (power < 0.0 || alpha < 1.0 / 255.0) discard;
  colour = vec4(look.rgb * alpha, alpha);
#ifdef GEOMETRY
  geometry = vec4(carried * alpha, alpha);
#endif
}`;

const COVER_VERTEX = `
void main() { gl_Position = vec4(vec2(gl_VertexID % 2, gl_VertexID / 2) * 4.0 - 1.0, 0.0, 1.0); }`;

const AVERAGE_FRAGMENT = `
uniform sampler2D colours, geometries;
uniform int samples;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec4 geometry;
void main() {
  ivec2 first = ivec2(gl_FragCoord.xy) * samples;
  colour = vec4(0.0);
  geometry = vec4(0.0);
  for (int y = 0; y < samples; y++)
    for (int x = 0; x < samples; x++) {
      colour += texelFetch(colours, first + ivec2(x, y), 0);
      geometry += texelFetch(geometries, first + ivec2(x, y), 0);
    }
  float count = float(samples * samples);
  colour /= count;
  geometry /= count;
}`;

const SHOWN = { colour: 0, depth: 1, normals: 2, flow: 3, alpha: 4 };

// Normals are the central differences of `splat.normals`; flow has the colours of the Middlebury wheel.
const DISPLAY_FRAGMENT = `
uniform sampler2D colours, geometries, ramp, wheel;
uniform ivec2 corner, area; // of the part of the window, and its pixels
uniform int mode;
uniform vec3 background;
uniform mat3 axes;
uniform float focal, radius, reach, rim, samples;
uniform bool pinhole;
out vec4 shown;
vec4 geometry(ivec2 at) { return texelFetch(geometries, at, 0); }
vec3 point(ivec2 at) {
  vec4 found = geometry(at);
  float z = found.x / found.a + radius;
  vec2 pixel = vec2(float(at.x) + 0.5, float(area.y - at.y) - 0.5); // y down
  vec2 plane = (pixel - 0.5 * vec2(area)) / focal;
  return vec3(pinhole ? plane * z : plane, z);
}
vec3 normals(ivec2 at) {
  if (at.x < 1 || at.y < 1 || at.x >= area.x - 1 || at.y >= area.y - 1) return background;
  ivec2 x = ivec2(1, 0), y = ivec2(0, 1), around[5] = ivec2[5](at, at + x, at - x, at + y, at - y);
  for (int i = 0; i < 5; i++) if (geometry(around[i]).a < 0.9) return background;
  vec3 normal = normalize(cross(point(at - y) - point(at + y), point(at + x) - point(at - x)));
  return 0.5 + 0.5 * (normal * axes); // axes transposed: to the world
}
vec3 flow(vec2 by) {
  float far = length(by) / rim;
  if (!(far > 0.0)) return vec3(1.0);
  float turn = atan(-by.y, -by.x) / 3.14159265 + 1.0; // 0 to 2
  vec3 hue = texture(wheel, vec2((turn * 0.5 * 54.0 + 0.5) / 55.0, 0.5)).rgb;
  return 1.0 - min(far, 1.0) * (1.0 - hue);
}
void main() {
  ivec2 at = ivec2(gl_FragCoord.xy) - corner;
  vec4 seen = texelFetch(colours, at, 0);
  vec3 rgb = seen.rgb, clear = background * (1.0 - seen.a);
  if (mode == 4) rgb = vec3(seen.a), clear = vec3(0.0);
  else if (mode == 2) rgb = normals(at), clear = vec3(0.0);
  else if (mode != 0) {
    vec4 found = geometry(at);
    float safe = max(found.a, 1e-10);
    if (mode == 1) rgb = texture(ramp, vec2(0.5 + 0.5 * found.x / safe / reach, 0.5)).rgb * seen.a;
    else rgb = flow(found.yz / safe / samples) * seen.a;
  }
  shown = vec4(clamp(rgb + clear, 0.0, 1.0), 1.0);
}`;
