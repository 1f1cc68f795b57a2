"use strict";
// A run that was killed could not write that it stopped; its page says for how long it has been silent.
const going = document.querySelector(".going[data-written]");
const silent = going ? Math.floor((Date.now() / 1000 - going.dataset.written) / 60) : 0;
if (silent >= 3)
  going.textContent += ` Nothing was written for ${silent} minutes: if the command is not running any more, run it again to go on.`;
// One button plays and pauses all videos; without this script each has its own controls.
const films = [...document.querySelectorAll("video")];
const button = document.getElementById("play");
function play(on) {
  for (const film of films) on ? film.play().catch(() => {}) : film.pause();
  button.textContent = on ? "Pause" : "Play";
}
if (films.length) {
  for (const film of films) film.controls = false;
  button.hidden = false;
  button.addEventListener("click", () => play(films[0].paused));
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}
// The round view follows a drag or the arrow keys: its width is one round.
const turn = document.querySelector("#turn video");
if (turn) {
  let from = null;
  const seek = time => { turn.currentTime = ((time % turn.duration) + turn.duration) % turn.duration; };
  document.querySelector("#turn .drag").hidden = false;
  turn.tabIndex = 0;
  turn.addEventListener("pointerdown", event => {
    if (!turn.duration) return;
    from = { x: event.clientX, time: turn.currentTime };
    turn.pause();
    turn.setPointerCapture(event.pointerId);
  });
  turn.addEventListener("pointermove", event => {
    if (from) seek(from.time + (event.clientX - from.x) / turn.clientWidth * turn.duration);
  });
  for (const end of ["pointerup", "pointercancel"]) turn.addEventListener(end, () => { from = null; });
  turn.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !turn.duration) return;
    event.preventDefault();
    turn.pause();
    seek(turn.currentTime + step * turn.duration / 48);
  });
}
