// Index: the scene filter. The chosen tag is part of the address, so that a filtered list can be linked.
"use strict";
(() => {
  const buttons = [...document.querySelectorAll("#tags button")];
  const apply = () => {
    const asked = new URLSearchParams(location.hash.slice(1)).get("tag") || "";
    const tag = buttons.some((button) => button.dataset.tag === asked) ? asked : "";
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.tag === tag));
    for (const card of document.querySelectorAll("#scenes .cards > li")) {
      card.hidden = tag !== "" && !JSON.parse(card.dataset.tags).includes(tag);
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const tag = button.dataset.tag;
      history.replaceState(null, "", tag ? `#${new URLSearchParams({ tag })}` : "#scenes");
      apply();
    });
  }
  addEventListener("hashchange", apply);
  apply();
})();
