// Sorts the table by a click on a heading, and hides the rows that do not fit what is looked for.
(function () {
  "use strict";
  const table = document.querySelector("table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const words = document.getElementById("words");
  const state = document.getElementById("state");
  const shown = document.getElementById("shown");

  function sortKey(row, column) {
    const cell = row.cells[column];
    const number = cell.dataset.v;
    if (number === undefined) return cell.textContent.trim();
    return number === "" ? null : Number(number);
  }

  function compare(a, b) {
    return typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  }

  function sort(column, head) {
    const now = head.getAttribute("aria-sort");
    const up = now ? now === "descending" : head.dataset.sort === "up";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = rows.map((row) => [sortKey(row, column), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // those without a figure are last
      return up ? compare(a, b) : compare(b, a);
    });
    keyed.forEach(([, row]) => body.appendChild(row));
  }

  function filter() {
    const text = words.value.trim().toLowerCase();
    let count = 0;
    rows.forEach((row) => {
      const wanted = !state.value || row.className === state.value;
      row.hidden = !(wanted && row.textContent.toLowerCase().includes(text));
      count += row.hidden ? 0 : 1;
    });
    shown.textContent = count === rows.length ? "" : count + " of " + rows.length + " shown";
  }

  heads.forEach((head, column) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(column, head));
  });
  words.addEventListener("input", filter);
  state.addEventListener("change", filter);
  document.querySelector(".tools").hidden = false;
  filter(); // a browser may have kept what was typed before a reload
})();
