"use strict";
// Leaderboards (templates/leaderboard.html.j2), beside table.js: state in the address, downloads, copying, comparison.
{
  document.documentElement.classList.add("scripted");
  const board = document.querySelector("[data-board]");
  const table = board?.querySelector("table");
  const headings = table ? [...table.tHead.rows[0].cells] : [];
  const sortButton = (heading) => heading.querySelector("button");
  let fitting = board?.entries ?? []; // the rows that fit search and filters, in their order
  const all = fitting;
  let ticked = [];

  // The address after "#": search, filters, order and ticked rows; anything else is a permanent link of a row.
  const controls = board ? [...board.querySelectorAll("[data-search], [data-filter]")] : [];
  const nameOf = (control) => control.dataset.filter ?? "search";
  const writeAddress = () => {
    const state = new URLSearchParams();
    for (const control of controls) if (control.value) state.set(nameOf(control), control.value);
    const sorted = headings.find((heading) => heading.hasAttribute("aria-sort"));
    if (sorted) state.set("sort", (sorted.ariaSort === "descending" ? "-" : "") + sortButton(sorted).dataset.key);
    if (ticked.length) state.set("compare", ticked.map(({ id }) => id).join(","));
    if (String(state)) history.replaceState(null, "", `#${state}`);
    else if (location.hash.includes("=")) history.replaceState(null, "", "#");
  };
  const readAddress = () => {
    if (!location.hash.includes("=")) return;
    const state = new URLSearchParams(location.hash.slice(1));
    for (const control of controls) {
      control.value = state.get(nameOf(control)) ?? "";
      if (control.selectedIndex === -1) control.value = ""; // no such choice
    }
    const [, minus, key] = /^(-?)(.*)$/.exec(state.get("sort") ?? "");
    const heading = headings.find((each) => sortButton(each).dataset.key === key);
    const order = minus ? "descending" : "ascending";
    for (let press = 0; heading && press < 2 && heading.ariaSort !== order; press++) sortButton(heading).click();
    const ids = (state.get("compare") ?? "").split(",");
    ticked = ids.map((id) => all.find((entry) => entry.id === id && entry.dataset.name)).filter(Boolean).slice(0, 2);
    controls[0].dispatchEvent(new Event("input", { bubbles: true }));
    showTicks();
  };

  // Downloads: the shown columns of all rows that fit.
  const text = (element) => element?.textContent.trim().replace(/\s+/g, " ") ?? "";
  const cellTexts = (cell) => [[...cell.querySelectorAll("bdi")].map(text).join(" · "), text(cell.querySelector("small")), cell.classList.contains("best")];
  const readTable = () => ({
    head: headings.map((heading) => text(heading)),
    rows: fitting.map((entry) => [...entry.rows[0].cells].slice(0, headings.length).map(cellTexts)),
    numbers: headings.map((heading) => heading.classList.contains("number")),
  });
  const quoteCsv = (cell) => {
    const safe = /^[=+\-@\t\r]/.test(cell) && Number.isNaN(Number(cell)) ? `'${cell}` : cell; // no formulas
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const formats = {
    // The deviation or range beside a number gets a column of its own.
    csv({ head, rows }) {
      const noted = head.map((_, place) => rows.some((row) => row[place][1]));
      const lines = [head.flatMap((name, place) => (noted[place] ? [name, `${name} ${name === "place" ? "range" : "sd"}`] : [name]))];
      for (const row of rows) lines.push(row.flatMap(([cell, note], place) => (noted[place] ? [cell, note.replace("±", "")] : [cell])));
      return lines.map((line) => line.map(quoteCsv).join(",")).join("\n");
    },
    md({ head, rows, numbers }) {
      const escape = (cell) => cell.replace(/[\\|*_`<>[\]]/g, "\\$&");
      const cells = ([cell, note, best]) => [best ? `**${escape(cell)}**` : escape(cell), escape(note)].filter(Boolean).join(" ");
      const lines = [head.map(escape), numbers.map((number) => (number ? "---:" : "---")), ...rows.map((row) => row.map(cells))];
      return lines.map((line) => `| ${line.join(" | ")} |`).join("\n");
    },
    tex({ head, rows, numbers }) {
      const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "–": "--", "·": "$\\cdot$" };
      const escape = (cell) => cell.replace(/[\\~^±–·]|[&%$#_{}]/g, (sign) => special[sign] ?? `\\${sign}`);
      const cells = ([cell, note, best]) => [best ? `\\textbf{${escape(cell)}}` : escape(cell), escape(note)].filter(Boolean).join(" ");
      const lines = [head.map(escape), ...rows.map((row) => row.map(cells))].map((line) => `${line.join(" & ")} \\\\`);
      const columns = numbers.map((number) => (number ? "r" : "l")).join("");
      return [`\\begin{tabular}{${columns}}`, "\\toprule", lines[0], "\\midrule", ...lines.slice(1), "\\bottomrule", "\\end{tabular}"].join("\n");
    },
  };
  const save = (format) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${formats[format](readTable())}\n`], { type: "text/plain" }));
    link.download = `${document.title.split(":")[0]}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const copy = async (button) => {
    const source = button.closest(".command").querySelector("code");
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // the reader's own copy command takes it from here
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };

  // The comparison: docs/compare.md. A paired bootstrap over identities, expanded as Hesterberg's percentiles.
  const decode = (base64, Type) => new Type(Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0)).buffer);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  // Simpson's rule.
  const integrate = (f, from, to, steps = 2000) => {
    const step = (to - from) / steps;
    let sum = f(from) + f(to);
    for (let i = 1; i < steps; i++) sum += f(from + i * step) * (i % 2 ? 4 : 2);
    return (sum * step) / 3;
  };
  // Student's t with nu degrees of freedom is sqrt(nu) tan(angle), and the density of the angle is a power of its cosine.
  const studentQuantile = (nu, p) => {
    const density = (angle) => Math.cos(angle) ** (nu - 1);
    const half = integrate(density, 0, Math.PI / 2);
    let [low, high] = [0, Math.PI / 2];
    for (let i = 0; i < 50; i++) {
      const angle = (low + high) / 2;
      if (integrate(density, 0, angle) / half < 2 * Math.abs(p - 0.5)) low = angle;
      else high = angle;
    }
    return Math.sign(p - 0.5) * Math.sqrt(nu) * Math.tan(low);
  };
  const normalProbability = (x) => 0.5 + integrate((z) => Math.exp((-z * z) / 2), 0, x) / Math.sqrt(2 * Math.PI);
  // Uniform numbers from 0 to 1 by xorshift with the shifts 13, 17, 5 (Marsaglia 2003, Xorshift RNGs); the seed is not 0.
  const generator = (seed) => () => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) / 2 ** 32;
  };
  const quantile = (sorted, p) => {
    const place = p * (sorted.length - 1);
    const below = Math.floor(place);
    return sorted[below] + (place - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
  };
  const bootstrap = (differences, identities, draws = 20000) => {
    const count = 1 + identities.reduce((most, identity) => Math.max(most, identity), 0);
    const [sums, sizes] = [new Float64Array(count), new Float64Array(count)];
    differences.forEach((difference, query) => {
      sums[identities[query]] += difference;
      sizes[identities[query]] += 1;
    });
    const random = generator(1);
    const means = new Float64Array(draws).map(() => {
      let [sum, size] = [0, 0];
      for (let i = 0; i < count; i++) {
        const identity = Math.floor(random() * count);
        sum += sums[identity];
        size += sizes[identity];
      }
      return sum / size;
    }).sort();
    const tail = normalProbability(Math.sqrt(count / (count - 1)) * studentQuantile(count - 1, 0.025));
    return { count, low: quantile(means, tail), high: quantile(means, 1 - tail) };
  };
  const compareEntries = (a, b) => {
    const identities = decode(document.querySelector(`[data-of="${CSS.escape(a.dataset.queries)}"]`).dataset.identities, Uint32Array);
    const [one, other] = [a, b].map(({ dataset }) => decode(dataset.values, Uint16Array));
    const seeds = [a, b].map(({ dataset }) => JSON.parse(dataset.seeds));
    const gap = mean(seeds[0]) - mean(seeds[1]);
    let { count, low, high } = bootstrap(Array.from(one, (value, query) => (value - other[query]) / 65535), identities);
    const overSeeds = Math.min(...seeds.map(({ length }) => length)) >= 3;
    if (overSeeds) {
      const parts = [[((high - low) / 2 / studentQuantile(count - 1, 0.975)) ** 2, count - 1]];
      for (const side of seeds) {
        const variance = side.reduce((sum, value) => sum + (value - mean(side)) ** 2, 0) / (side.length - 1);
        parts.push([variance / side.length, side.length - 1]);
      }
      const variance = parts.reduce((sum, [part]) => sum + part, 0);
      const freedom = variance ** 2 / parts.reduce((sum, [part, degrees]) => sum + part ** 2 / degrees, 0);
      const half = variance ? studentQuantile(freedom, 0.975) * Math.sqrt(variance) : 0;
      [low, high] = [gap - half, gap + half];
    }
    return { gap, low, high, seeds, count, queries: one.length, overSeeds };
  };

  const panel = document.querySelector("[data-comparison]");
  const element = (tag, content, attributes = {}) => {
    const node = document.createElement(tag);
    node.append(...[content].flat());
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const signed = (points) => `${points < 0 ? "−" : "+"}${Math.abs(100 * points).toFixed(2)}`;
  const quoteShell = (word) => (/^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  const commandLine = (command) =>
    element("div", [element("span", "All scores"), element("code", command, { dir: "ltr" }), element("button", "Copy", { type: "button", "data-copy": "", "aria-label": "Copy: all scores" })], { class: "command" });
  const comparisonOf = (a, b) => {
    const score = panel.dataset.score;
    const studies = [a, b].filter(({ dataset }) => dataset.command);
    if (studies.length) return [element("p", "Each seed of a tuned row has other options: the study compares its losses itself."), commandLine(studies[0].dataset.command)];
    const seeds = [a, b].some(({ dataset }) => JSON.parse(dataset.seeds).length > 1) ? " --seeds" : "";
    const command = commandLine(`reidbench compare ${[a, b].map(({ dataset }) => quoteShell(dataset.run)).join(" ")}${seeds}`);
    const comparable = a.dataset.values && b.dataset.values && a.dataset.queries === b.dataset.queries;
    if (!comparable) return [element("p", "The values of these two for each query are not in this page, or are of other data; the command compares them where their rankings are."), command];
    const result = compareEntries(a, b);
    const significant = result.low > 0 || result.high < 0;
    const higher = result.gap > 0 ? "A" : "B";
    const covers = result.overSeeds
      ? `, plus the variance between ${result.seeds.map(({ length }) => length).join(" and ")} seeds.`
      : "; it covers the choice of queries, not training noise (that takes 3 or more seeds of both).";
    return [
      element("p", [
        ...result.seeds.flatMap((side, place) => [`${"AB"[place]} ${(100 * mean(side)).toFixed(2)} · `]),
        "A−B ", element("strong", signed(result.gap)), ", 95 % CI ",
        element("strong", `${signed(result.low)} to ${signed(result.high)}`, { "data-interval": `${result.low} ${result.high}` }),
        ` points of ${score}.`,
      ]),
      element("p", significant ? `${higher}’s ${score} is significantly higher: the interval excludes 0.` : `No significant difference in ${score}: the interval includes 0.`),
      element("p", `Paired bootstrap over ${result.count} identities of ${result.queries} queries${covers}`, { class: "soft" }),
      command,
    ];
  };
  const showTicks = () => {
    if (!panel) return;
    for (const entry of all) {
      const box = entry.querySelector("[data-tick]");
      if (box) box.checked = ticked.includes(entry);
    }
    panel.hidden = !ticked.length;
    const names = ticked.map((entry, place) => element("span", [element("strong", "AB"[place]), " ", element("bdi", entry.dataset.name)], { class: "chip" }));
    const clear = element("button", "Clear", { type: "button", "data-clear": "" });
    const body = ticked.length === 2 ? comparisonOf(...ticked) : [element("p", "Tick a second row to compare the two.")];
    panel.replaceChildren(element("div", [...names, clear], { class: "sides" }), ...body);
  };
  const tick = (entry) => {
    ticked = ticked.includes(entry) ? ticked.filter((other) => other !== entry) : [...ticked, entry].slice(-2);
    showTicks();
    writeAddress();
  };

  for (const entry of panel ? all : []) {
    if (!entry.dataset.run && !entry.dataset.command) continue;
    entry.dataset.name = [entry.rows[0].cells[0], ...entry.rows[0].querySelectorAll(".chip")].map((cell) => text(cell.querySelector("bdi") ?? cell)).join(" · ");
    const box = element("input", [], { type: "checkbox", "data-tick": "", "aria-label": `Compare ${entry.dataset.name}` });
    entry.rows[0].cells[0].prepend(box);
  }
  document.addEventListener("change", ({ target }) => target.matches("[data-tick]") && tick(target.closest("tbody")));
  document.addEventListener("click", ({ target }) => {
    if (target.matches("[data-copy]")) copy(target);
    if (target.matches("[data-format]")) save(target.dataset.format);
    if (target.matches("[data-clear]")) {
      ticked = [];
      showTicks();
      writeAddress();
      controls[0].focus();
    }
  });
  board?.addEventListener("shown", ({ detail }) => {
    fitting = detail;
    writeAddress();
  });
  for (const hidden of document.querySelectorAll("[data-downloads]")) hidden.hidden = false;
  if (board) readAddress();
  if (board) addEventListener("hashchange", readAddress);
}
