// Tables: a styled tip on hover and focus, a side panel with the provenance tree of a number, one metric at a time
// on narrow screens, and arrow keys between the numbers.
"use strict";
(() => {
  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // Leaves become rows of a list, branches fold; the first two levels are open.
  const tree = (value, depth) => {
    const list = element("dl", { class: "tree" });
    for (const [name, item] of Object.entries(value)) {
      const holder = (one) => one !== null && typeof one === "object";
      const branch = Array.isArray(item) ? item.some(holder) : holder(item) && Object.keys(item).length > 0;
      if (!branch) {
        list.append(element("dt", {}, name), element("dd", {}, leaf(item)));
        continue;
      }
      const size = Array.isArray(item) ? ` (${item.length})` : "";
      const fold = element("details", depth < 1 ? { open: "" } : {}, element("summary", {}, name + size));
      fold.append(tree(item, depth + 1));
      list.append(element("div", { class: "branch" }, fold));
    }
    return list;
  };

  const leaf = (item) => {
    if (item === null) return "not recorded";
    if (item === true) return "yes";
    if (item === false) return "no";
    if (Array.isArray(item) && item.length) return item.map(leaf).join(" ");
    return typeof item === "object" ? "none" : String(item);
  };

  const panel = element("dialog", { class: "panel", "aria-labelledby": "panel-title" });
  const tip = element("div", { class: "tip", "aria-hidden": "true", hidden: "" });
  document.body.append(panel, tip);
  panel.addEventListener("click", (event) => {
    if (event.target === panel) panel.close(); // the backdrop
  });

  const show = (details) => {
    const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
    close.addEventListener("click", () => panel.close());
    const inner = element("div", { class: "inner" });
    inner.append(
      element("header", {}, element("h2", { id: "panel-title" }, details.title), close),
      element("p", { class: "summary" }, details.note),
      element("p", { class: "source" }, `source: ${details.source}`),
    );
    if (details.provenance) inner.append(element("h3", {}, "Provenance"), tree(details.provenance, 0));
    else inner.append(element("p", { class: "soft" }, "No provenance was recorded for this cell."));
    panel.replaceChildren(inner);
    panel.showModal();
  };

  const place = (button) => {
    tip.textContent = button.dataset.tip;
    tip.hidden = false;
    const at = button.getBoundingClientRect();
    const width = tip.offsetWidth;
    const left = Math.min(Math.max(8, at.left + at.width / 2 - width / 2), innerWidth - width - 8);
    const above = at.top - tip.offsetHeight - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 8 ? above : at.bottom + 8}px`;
  };
  const hide = () => { tip.hidden = true; };

  // On narrow screens the style sheet hides all columns but the chosen one.
  const pick = (section) => {
    const chosen = Number(section.querySelector(".pick select").value);
    for (const row of section.querySelectorAll("table.numbers tr:not(.group)")) {
      [...row.children].slice(1).forEach((cell, place) => cell.classList.toggle("other", place !== chosen));
    }
  };

  // One stop of the tab key for each row; arrows go on from there.
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const walk = (section) => {
    const rows = [...section.querySelectorAll("table.numbers tbody tr")].map((row) => [...row.querySelectorAll("button.cell")]);
    const grid = rows.filter((row) => row.length);
    for (const row of grid) row.forEach((button, place) => { button.tabIndex = place ? -1 : 0; });
    section.querySelector("table.numbers").addEventListener("keydown", (event) => {
      const down = grid.findIndex((row) => row.includes(event.target));
      if (!step[event.key] || down < 0) return;
      const [dy, dx] = step[event.key];
      const target = grid[down + dy]?.[grid[down].indexOf(event.target) + dx];
      if (target) { event.preventDefault(); target.focus(); }
    });
  };

  for (const section of document.querySelectorAll("section.result")) {
    section.querySelector(".pick select").addEventListener("change", () => pick(section));
    pick(section);
    walk(section);
    const details = JSON.parse(section.querySelector("script.details").textContent);
    for (const button of section.querySelectorAll("button.cell")) {
      button.dataset.tip = button.title; // without scripts the browser's own tip shows the same text
      button.removeAttribute("title");
      button.setAttribute("aria-haspopup", "dialog");
      button.addEventListener("click", () => { hide(); show(details[button.dataset.cell]); });
      button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") place(button); });
      button.addEventListener("focus", () => { if (button.matches(":focus-visible")) place(button); });
      button.addEventListener("pointerleave", hide);
      button.addEventListener("blur", hide);
    }
  }
  addEventListener("scroll", hide, { passive: true, capture: true });
  document.documentElement.dataset.tables = "ready";
})();
