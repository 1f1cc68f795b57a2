"use strict";
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
