// Cameras on a sphere around a target, as `views.cameras.orbit` places them: Z up, azimuth 0 on −Y.

const RADIUS = 3, TANGENT = Math.tan((49.1 / 2) * (Math.PI / 180)); // of half the field of view of a pinhole camera

const START = Object.freeze({ az: 0, el: 0, zoom: 1, x: 0, y: 0, z: 0 });

/** Axes (right, down, ahead), shift and focal lengths of a camera for a picture of width × height pixels. */
function cameraOf(place, pinhole, size, width, height) {
  const azimuth = (place.az * Math.PI) / 180, elevation = (place.el * Math.PI) / 180;
  const [sa, ca, se, ce] = [Math.sin(azimuth), Math.cos(azimuth), Math.sin(elevation), Math.cos(elevation)];
  const right = [ca, sa, 0], ahead = [-sa * ce, ca * ce, -se];
  const down = cross(ahead, right), target = [place.x, place.y, place.z], radius = RADIUS * size;
  const focal = Math.min(width, height) * place.zoom / (2 * (pinhole ? TANGENT : size));
  return {
    right, down, ahead, radius, focal, pinhole, width, height,
    shift: [-dot(right, target), -dot(down, target), radius - dot(ahead, target)],
    centre: [0, 1, 2].map((i) => target[i] - radius * ahead[i]),
    pixel: (pinhole ? radius : 1) / focal, // world units, at the target
  };
}

/** Pixel (x, y down) and camera z of a world point. */
function projected({ right, down, ahead, shift, focal, pinhole, width, height }, point) {
  const depth = dot(ahead, point) + shift[2], by = pinhole ? focal / depth : focal;
  return [(dot(right, point) + shift[0]) * by + width / 2, (dot(down, point) + shift[1]) * by + height / 2, depth];
}

function dot(a, b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}
