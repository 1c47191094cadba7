"use strict";
// Boards (templates/tables.html.j2): sort by headings, search, filter, open rows, and follow permanent links.
// Of a long table the first rows are in the page and the others wait: laying out a thousand takes longer than sorting.
const FIRST = matchMedia("(max-width: 40rem)").matches ? 20 : 100;
for (const board of document.querySelectorAll("[data-board]")) {
  const table = board.querySelector("table");
  const entries = (board.entries = [...table.tBodies]); // all rows, for other scripts
  let ordered = entries;
  let limit = FIRST;
  const headings = [...table.tHead.rows[0].cells];
  const texts = new Map(entries.map((entry) => [entry, entry.rows[0].textContent.toLowerCase()]));
  const compareTexts = new Intl.Collator("en", { numeric: true }).compare;

  const key = (entry, column, numeric) => {
    const cell = entry.rows[0].cells[column];
    const value = cell.dataset.value;
    if (numeric) return value === undefined ? NaN : Number(value);
    return value ?? cell.textContent.trim();
  };

  // Stable, and what has no number stands last in both directions.
  const sort = (column, direction) => {
    const numeric = headings[column].querySelector("button").dataset.sort === "number";
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = entries.map((entry) => [key(entry, column, numeric), entry]);
    keyed.sort(([a], [b]) => {
      if (!numeric) return sign * compareTexts(a, b);
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    ordered = keyed.map(([, entry]) => entry);
    show();
    headings.forEach((heading, place) => {
      if (place === column) heading.setAttribute("aria-sort", direction);
      else heading.removeAttribute("aria-sort");
    });
  };

  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    button.addEventListener("click", () => {
      const other = { ascending: "descending", descending: "ascending" };
      sort(column, other[heading.getAttribute("aria-sort")] ?? button.dataset.first);
    });
  });

  const search = board.querySelector("[data-search]");
  const filters = [...board.querySelectorAll("[data-filter]")];
  const count = board.querySelector("[data-count]");
  const more = board.querySelector("[data-more]");
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = ordered.filter(
      (entry) =>
        words.every((word) => texts.get(entry).includes(word)) &&
        filters.every(({ value, dataset }) => !value || entry.getAttribute(`data-by-${dataset.filter}`) === value),
    );
    for (const entry of [...table.tBodies]) entry.remove(); // the headings stay: one of them has the focus
    table.append(...fitting.slice(0, limit));
    const all = `${entries.length} row${entries.length === 1 ? "" : "s"}`;
    const counted = fitting.length === entries.length ? all : `${fitting.length} of ${all}`;
    count.value = fitting.length > limit ? `${counted}, the first ${limit} shown` : counted;
    more.hidden = fitting.length <= limit;
    board.dispatchEvent(new CustomEvent("shown", { detail: fitting }));
  };
  more.addEventListener("click", () => {
    limit = Infinity;
    show();
    count.focus();
  });
  board.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  for (const control of [search, ...filters]) control.addEventListener("input", show);

  table.addEventListener("click", (event) => {
    const button = event.target.closest(".open");
    if (button) open(button, button.getAttribute("aria-expanded") === "false");
  });

  const open = (button, wanted) => {
    button.setAttribute("aria-expanded", String(wanted));
    button.closest("tbody").rows[1].hidden = !wanted;
  };

  // A permanent link opens its row, even where a filter hid it.
  const follow = () => {
    const entry = entries.find(({ id }) => id && id === location.hash.slice(1));
    if (!entry) return;
    limit = Infinity;
    search.value = "";
    for (const filter of filters) filter.value = "";
    show();
    const button = entry.querySelector(".open");
    if (button) open(button, true);
    entry.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", follow);
  show();
  follow();
}

// A link to a folded part unfolds it, also in browsers that do not do so by themselves.
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));
  const folded = target?.closest("details:not([open])");
  if (!folded) return;
  folded.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
