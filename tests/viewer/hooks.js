// Adds to a viewer's page what its tests ask for; runs after the page is ready.
(() => {
  const { state, live, START, fieldAt, wake, cameraIn, drawView, interval, poseOf, depthsOf, nearestFirst } = mvtf4d;

  /** Base64 of an array's bytes. */
  function text(array) {
    let word = "";
    for (const byte of new Uint8Array(array.buffer)) word += String.fromCharCode(byte);
    return btoa(word);
  }

  /** Draws a state without the page's layout: the picture in 8 bits, or the values of the targets; rows from below. */
  mvtf4d.shot = async (asked, width, height, { precision, values = false } = {}) => {
    const { places, a = 0, b = a, ...rest } = asked;
    const wanted = { ...state, layout: "one", points: false, ...rest, places: places || [{ ...START, ...asked.place }, null] };
    const fields = [await fieldAt(a), await fieldAt(b)], { renderer } = live, canvas = document.querySelector("#picture");
    if (values) {
      const camera = cameraIn(wanted, 0, fields[0], width, height);
      const options = { plain: wanted.filter === "plain", geometry: true, precision };
      return targetValues(renderer, renderer.accumulate("shot", fields[0], wanted.t, camera, options)).map(text);
    }
    Object.assign(canvas, { width, height });
    drawView(renderer, wanted, fields, { precision });
    const bytes = new Uint8Array(4 * width * height), { gl } = renderer;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    live.dirty = true;
    wake();
    return text(bytes);
  };

  /** Colours and (z − radius, flow x, flow y) times alpha, and alpha. */
  function targetValues({ gl }, { target }) {
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.buffer);
    return [0, 1].map((i) => {
      const values = new Float32Array(4 * target.width * target.height);
      gl.readBuffer(gl.COLOR_ATTACHMENT0 + i);
      gl.readPixels(0, 0, target.width, target.height, gl.RGBA, gl.FLOAT, values);
      return values;
    });
  }

  /** Milliseconds of poses and of the order, for a field at a frame. */
  mvtf4d.orderTime = async (index, frame) => {
    const field = await fieldAt(index), begin = performance.now(), { frame: at, fraction } = interval(field, frame);
    const pose = field.skinned ? poseOf(field, at, fraction) : null;
    nearestFirst(depthsOf(field, at, fraction, pose, [0.6, 0.7, 0.3]));
    return performance.now() - begin;
  };
})();
