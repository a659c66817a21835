// Sorts the tables of class "sort" by a heading (click, Enter or Space). Without this script they stay as they are.
"use strict";
// Where a table goes on to the right of the screen its edge fades: a number that is cut off would read as another one.
for (const box of document.querySelectorAll(".scroll")) {
  const fade = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  box.addEventListener("scroll", fade, { passive: true });
  new ResizeObserver(fade).observe(box);
}
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.querySelector(".sr")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const keyed = [...table.tBodies[0].rows].map((row) => {
        const cell = row.cells[column];
        const text = (cell.dataset.value ?? cell.textContent).trim();
        const number = /^-?[\d,]*\.?\d+/.exec(text);
        return { row, text, number: number ? Number(number[0].replaceAll(",", "")) : null };
      });
      const numbers = keyed.some((entry) => entry.number !== null);
      // Equal numbers, as of slides 14-2523 and 14-2980, are sorted by their text.
      const one = (a, b) => a.number - b.number || a.text.localeCompare(b.text, "en", { numeric: true });
      keyed.sort((a, b) => {
        // What has no number, such as "too few cases", stands last either way.
        const gone = numbers ? (a.number === null) - (b.number === null) : 0;
        return gone || (up ? one(a, b) : one(b, a)) || 0;
      });
      table.tBodies[0].append(...keyed.map((entry) => entry.row));
    });
  });
}
