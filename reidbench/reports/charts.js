"use strict";
// Charts (templates/charts.html.j2): Vega-Lite draws the numbers of the tables under "Data".
{
  // Of the series of one method, in their order.
  const DASHES = ["1 0", "6 3", "2 2", "7 2 2 2"].map((text) => text.split(" ").map(Number));
  const SHAPES = ["circle", "square", "triangle-up", "diamond"];
  const SWATCHES = {
    circle: "M6 6a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
    square: "M6 1h10v10h-10z",
    "triangle-up": "M11 1l5 10h-10z",
    diamond: "M11 0l6 6l-6 6l-6-6z",
  };
  const MOST_LABELS = 12; // points of a scatter plot with their names beside them
  const MOST_MARKED = 15; // points of a line up to which each is marked
  const CONFIG = {
    background: null,
    font: "system-ui, sans-serif",
    aria: false,
    view: { stroke: null },
    text: { color: "currentColor" },
    axis: {
      ...Object.fromEntries(
        ["label", "title", "domain", "tick", "grid"].map((part) => [`${part}Color`, "currentColor"]),
      ),
      gridOpacity: 0.12,
      domainOpacity: 0.4,
      tickOpacity: 0.4,
      titleFontWeight: "normal",
      labelFontSize: 11,
      titleFontSize: 12,
    },
  };
  const show = (value) => (typeof value === "number" ? String(Number(value.toPrecision(5))) : (value ?? "–"));

  /** The series of a figure: {name, colour, dashes, shape, scaled, points: list of {name, …, x, y, low, high, labels}}. */
  const read = (figure) => {
    const keys = [...figure.querySelectorAll("thead th")].map((cell) => cell.dataset.key);
    const bodies = [...figure.querySelector("table").tBodies];
    const texts = bodies.map((body) =>
      [...body.rows].slice(1).map((row) => [...row.cells].map((cell) => cell.textContent)),
    );
    const category = figure.dataset.chart === "heatmap" || texts.flat().some(([x]) => Number.isNaN(Number(x)));
    const parse = (key, text) =>
      key === "labels" || (key === "x" && category) ? text : text === "" ? null : Number(text);
    return bodies.map(({ rows, dataset }, place) => {
      const style = {
        name: rows[0].textContent,
        colour: dataset.colour,
        dashes: DASHES[dataset.dashes],
        shape: SHAPES[dataset.dashes],
      };
      const points = texts[place].map((row) => ({
        ...style,
        ...Object.fromEntries(row.map((text, i) => [keys[i], parse(keys[i], text)])),
      }));
      return { ...style, scaled: !("unscaled" in dataset), points };
    });
  };

  /** The least and the greatest of the numbers of some points, with a margin, for a scale of one axis. */
  const extent = (points, keys, log, margin = 0.06) => {
    const numbers = points
      .flatMap((point) => keys.map((key) => point[key]))
      .filter((value) => typeof value === "number");
    if (!numbers.length) return log ? [1, 10] : [0, 1];
    const least = numbers.reduce((a, b) => Math.min(a, b));
    const greatest = numbers.reduce((a, b) => Math.max(a, b));
    if (log) return [least / (greatest / least) ** margin / 1.01, greatest * (greatest / least) ** margin * 1.01];
    const space = (greatest - least) * margin || (margin && Math.abs(least) / 10) || 0.5;
    return [least - space * (margin > 0), greatest + space * (margin > 0 || least === greatest)];
  };

  /** Names as labels of lines of at most so many characters. All are cut at one place, the nearest to the middle where
      they stay distinct; where there is none, they are numbered. */
  const shorten = (names, longest, split = false) => {
    const cut = (text, length, start) =>
      text.length <= length ? text : `${text.slice(0, start)}…${text.slice(text.length - (length - 1 - start))}`;
    const labels = (length, start) =>
      names.map((name) => (split ? name.split(", ") : [name]).map((line) => cut(line, length, start)));
    const starts = [...Array(longest).keys()].sort((a, b) => Math.abs(a - longest / 2) - Math.abs(b - longest / 2));
    const distinct = (start) => new Set(labels(longest, start).map(String)).size === new Set(names).size;
    const start = starts.find(distinct);
    if (start !== undefined) return labels(longest, start);
    return labels(longest - 3, Math.floor(longest / 2) - 2).map(([line, ...lines], i) => [`${i + 1} ${line}`, ...lines]);
  };

  /** The part of an axis that shows some names within so many pixels. */
  const fitted = (names, pixels, split) => {
    const labels = shorten(names, Math.floor(pixels / 6.5), split); // the mean width of a character, and some room
    return {
      labelExpr: `${JSON.stringify(labels)}[indexof(${JSON.stringify(names)}, datum.label)]`,
      labelLimit: pixels * 1.2,
    };
  };

  const colour = { field: "colour", type: "nominal", scale: null };
  const hover = { value: " " }; // what is shown is read from the point

  /** Lines with bands, or points with names, of the series that are shown, within the zoom [low, high] of x. */
  const plane = (chart, series, width, zoom) => {
    const scaled = series.some((each) => each.scaled) ? series.filter((each) => each.scaled) : series;
    const inside = ({ x }) => !zoom || (x >= zoom[0] && x <= zoom[1]);
    const within = scaled.flatMap((each) => each.points).filter(inside);
    const points = series.flatMap((each) => each.points).filter((point) => point.y !== null && point.x !== null);
    const isShare = chart.y?.endsWith("%") && points.every(({ y, high }) => Math.max(y, high ?? y) <= 100);
    const atMost = (end) => (isShare ? Math.min(end, 101) : end); // so that a line at 100 is seen below the edge
    const category = points.some(({ x }) => typeof x === "string");
    const scale = (axis, domain) => ({ type: chart.log.includes(axis) ? "log" : "linear", nice: false, domain });
    const margin = chart.kind === "scatter" ? 0.06 : 0;
    const x = category
      ? { field: "x", type: "nominal", sort: null, title: chart.x || null, axis: { labelAngle: 0, labelLimit: 90 } }
      : {
          field: "x",
          type: "quantitative",
          title: chart.x || null,
          axis: {
            grid: false,
            tickCount: 6,
            tickMinStep: points.every((point) => Number.isInteger(point.x)) ? 1 : 0,
            labelOverlap: true,
          },
          scale: scale("x", zoom ?? extent(within, ["x"], chart.log.includes("x"), margin)),
        };
    const y = {
      field: "y",
      type: "quantitative",
      title: chart.y || null,
      axis: { tickCount: 5, labelOverlap: true },
      scale: scale("y", extent(within, ["y", "low", "high"], chart.log.includes("y")).map(atMost)),
    };
    const encoding = { x, y, color: colour, detail: { field: "name" } };
    const brush = { name: "brush", select: { type: "interval", encodings: ["x"] } };
    const zoomable = !category && matchMedia("(pointer: fine)").matches; // a finger scrolls the page
    const params = zoomable ? [brush] : [];
    if (chart.kind === "scatter") {
      const named = {
        mark: { type: "text", align: "left", dx: 7, dy: -6 },
        encoding: { x, y, text: { field: "text" } },
      };
      const dots = {
        params,
        mark: { type: "point", filled: true, size: 60, opacity: 0.85 },
        encoding: { ...encoding, shape: { field: "shape", type: "nominal", scale: null }, tooltip: hover },
      };
      const values = points.map((point) => ({ ...point, text: point.labels || point.name }));
      const distinct = new Set(values.map(({ text }) => text)).size === values.length;
      const room = distinct && points.length <= MOST_LABELS && innerWidth >= 640;
      return { zoomable, data: { values }, layer: room ? [dots, named] : [dots] };
    }
    const bands = {
      data: { values: points.filter(({ low }) => typeof low === "number") },
      mark: { type: "area", opacity: 0.14, clip: true },
      encoding: { ...encoding, y: { ...y, field: "low" }, y2: { field: "high" } },
    };
    const marked = Math.max(...series.map((each) => each.points.length)) <= MOST_MARKED;
    const lines = {
      params,
      mark: { type: "line", strokeWidth: 1.8, clip: true },
      encoding: { ...encoding, strokeDash: { field: "dashes", type: "nominal", scale: null } },
    };
    const nearest = { name: "near", select: { type: "point", on: "pointermove", nearest: true, clear: "pointerout" } };
    const dots = {
      data: { values: points.filter(inside) },
      params: [nearest],
      mark: { type: "point", filled: true, size: 45, clip: true },
      encoding: {
        ...encoding,
        tooltip: hover,
        opacity: { condition: { param: "near", empty: false, value: 1 }, value: marked ? 0.8 : 0 },
      },
    };
    return { zoomable, data: { values: points }, layer: [bands, lines, dots] };
  };

  /** A row for each series: its x as dots, their mean, the interval. */
  const intervals = (chart, series, width) => {
    const rows = series.map(({ name, colour, points }) => {
      const numbers = points.map(({ x }) => x).filter((value) => value !== null);
      const mean = numbers.reduce((sum, value) => sum + value / numbers.length, 0);
      return {
        name,
        colour,
        x: numbers.length ? mean : null,
        several: numbers.length > 1,
        low: points[0]?.low ?? null,
        high: points[0]?.high ?? null,
      };
    });
    const dots = series.flatMap((each) => each.points).filter(({ x }) => x !== null);
    const [low, high] = extent([...rows, ...dots], ["x", "low", "high"], chart.log.includes("x"));
    const names = series.map(({ name }) => name);
    const lines = width < 500 ? Math.max(...names.map((name) => name.split(", ").length)) : 1; // of a row's name
    const y = {
      field: "name",
      type: "nominal",
      sort: null,
      scale: { domain: names },
      axis: {
        ...fitted(names, Math.max(110, width * 0.42), lines > 1),
        title: null,
        domain: false,
        ticks: false,
        grid: true,
      },
    };
    const x = (field) => ({
      field,
      type: "quantitative",
      title: chart.x || null,
      axis: { tickCount: 5 },
      scale: { type: chart.log.includes("x") ? "log" : "linear", nice: false, domain: [low, high] },
    });
    const bounded = rows.filter((row) => row.low !== null && row.high !== null);
    const layer = [
      {
        data: { values: bounded },
        mark: { type: "rule", strokeWidth: 2 },
        encoding: { y, x: x("low"), x2: { field: "high" }, color: colour, tooltip: hover },
      },
      {
        data: { values: dots },
        mark: { type: "point", filled: true, size: 45 },
        encoding: { y, x: x("x"), color: colour, tooltip: hover, opacity: { value: 0.6 } },
      },
      {
        data: { values: rows.filter(({ several }) => several) },
        mark: { type: "tick", thickness: 3, size: 15 },
        encoding: { y, x: x("x"), color: colour, tooltip: hover },
      },
    ];
    if (low < 0 && high > 0)
      layer.unshift({
        data: { values: [{ x: 0 }] },
        mark: { type: "rule", color: "currentColor", opacity: 0.5 },
        encoding: { x: x("x") },
      });
    return { layer, height: (12 + 14 * lines) * series.length };
  };

  /** Cells, of one hue above 0 and of another below: the paler, the nearer to 0, whatever the page's own colour. */
  const heatmap = (chart, series, width) => {
    const points = series.flatMap((each) => each.points).filter(({ y }) => y !== null);
    const greatest = Math.max(...points.map(({ y }) => Math.abs(y)), 1e-9);
    const values = points.map((point) => ({
      ...point,
      hue: point.y < 0 ? "#d9730d" : "#3b82c4",
      shade: (0.7 * Math.abs(point.y)) / greatest,
      text: point.labels || show(Number(point.y.toPrecision(3))),
      star: point.labels?.endsWith("*") ? "*" : "",
    }));
    const columns = series[0].points.map((point) => point.x);
    const longest = Math.max(...columns.map((name) => name.length));
    const room = Math.max(80, width * 0.3);
    const plain = { domain: false, ticks: false, grid: false };
    const rows = series.map(({ name }) => name);
    const x = {
      field: "x",
      type: "nominal",
      sort: null,
      title: chart.x || null,
      scale: { domain: columns },
      axis: { ...fitted(columns, room), ...plain, labelAngle: longest < 5 ? 0 : -90, labelOverlap: true },
    };
    const y = {
      field: "name",
      type: "nominal",
      sort: null,
      title: chart.y || null,
      scale: { domain: rows },
      axis: { ...fitted(rows, room), ...plain },
    };
    const cells = {
      mark: { type: "rect" },
      encoding: {
        x,
        y,
        color: { field: "hue", type: "nominal", scale: null },
        opacity: { field: "shade", type: "quantitative", scale: null },
        tooltip: hover,
      },
    };
    const text = { field: width / (columns.length + 2) > 26 ? "text" : "star" }; // narrow cells have room for a mark
    const texts = { mark: { type: "text", fontSize: 11 }, encoding: { x, y, text, tooltip: hover } };
    return {
      data: { values },
      layer: [cells, texts],
      height: 28 * series.length,
    };
  };

  const SPECS = { line: plane, scatter: plane, intervals, heatmap };

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true"); // the table has the same numbers
  document.body.append(tip);

  /** The lines of the tip at a point. */
  const describe = (point, chart, series) => {
    const range = typeof point.low === "number" ? ` (${show(point.low)} to ${show(point.high)})` : "";
    if (chart.kind === "heatmap")
      return [`${chart.y} ${point.name},`.trim(), `${chart.x} ${point.x}`.trim(), point.text];
    if (chart.kind === "intervals") return [point.name, `${show(point.x)}${range}`, point.labels ?? ""];
    if (chart.kind === "scatter")
      return [point.name, `${chart.x}: ${show(point.x)}`, `${chart.y}: ${show(point.y)}`, point.labels ?? ""];
    const beside = series.flatMap((each) => each.points.filter(({ x, y }) => x === point.x && y !== null));
    const several = beside.sort((a, b) => b.y - a.y).slice(0, 10);
    return [
      `${chart.x}: ${show(point.x)}`,
      ...several.map((each) => `${show(each.y)}  ${each.name}${each === point ? range : ""}`),
    ];
  };

  const element = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
    return node;
  };

  const start = (figure) => {
    const { chart: kind, log, x, y } = figure.dataset;
    const chart = { kind, log, x, y };
    const series = read(figure);
    const data = figure.querySelector("details.data");
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.setAttribute("role", "img");
    plot.setAttribute(
      "aria-label",
      `${figure.querySelector("figcaption").textContent}; its numbers are below, under Data`,
    );
    const controls = document.createElement("div");
    controls.className = "legend";
    data.before(plot, controls);
    data.open = false;
    const hidden = new Set();
    let zoom = null;
    let view = null;

    const draw = () => {
      const width = plot.clientWidth;
      view?.finalize();
      tip.hidden = true;
      const shown = series.filter(({ name }) => !hidden.has(name));
      const { zoomable = false, ...part } = SPECS[kind](chart, shown, width, zoom);
      const spec = {
        width,
        height: Math.round(Math.min(280, 120 + width / 4)),
        autosize: { type: "fit-x", contains: "padding" },
        config: CONFIG,
        ...part,
      };
      view = new vega.View(vega.parse(vega.compile(spec).spec, null, { ast: true }), {
        expr: vega.expressionInterpreter,
        renderer: "svg",
        container: plot,
        hover: true,
      });
      view.tooltip((_, event, item, value) => {
        const point = item?.datum?.datum ?? item?.datum; // of the cell around a nearest point, the point's
        tip.hidden = !value || !point;
        if (tip.hidden) return;
        tip.textContent = describe(point, chart, shown).filter(Boolean).join("\n");
        const { innerWidth, innerHeight } = window;
        tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
        tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
      });
      view.run();
      plot.querySelector("svg").setAttribute("aria-hidden", "true"); // the plot's own label says what it is
      plot.onpointerup = () => {
        const range = zoomable ? view.signal("brush").x : undefined;
        if (!range || range[0] === range[1]) return;
        zoom = [...range].sort((a, b) => a - b);
        reset.hidden = false;
        draw();
      };
    };

    const button = (text, press) => {
      const node = document.createElement("button");
      node.type = "button";
      node.dir = "auto";
      node.append(text);
      node.addEventListener("click", () => press(node));
      controls.append(node);
      return node;
    };
    const toggled = ["line", "scatter"].includes(kind) && series.length > 1 ? series : [];
    for (const { name, colour, dashes, shape } of toggled) {
      const toggle = button(name, (pressed) => {
        if (!hidden.delete(name)) hidden.add(name);
        pressed.setAttribute("aria-pressed", String(!hidden.has(name)));
        draw();
      });
      toggle.setAttribute("aria-pressed", "true");
      const line = { d: "M0 6H22", stroke: colour, "stroke-width": 3, "stroke-dasharray": dashes.join(" ") };
      const swatch = element("svg", { width: 22, height: 12, "aria-hidden": "true" });
      swatch.append(element("path", kind === "line" ? line : { d: SWATCHES[shape], fill: colour }));
      toggle.prepend(swatch);
    }
    const reset = button("Reset zoom", (pressed) => {
      zoom = null;
      pressed.hidden = true;
      controls.querySelector("button")?.focus();
      draw();
    });
    reset.hidden = true;

    let width = 0; // 0 while the chart is folded away
    new ResizeObserver(() => {
      if (plot.clientWidth && plot.clientWidth !== width) {
        width = plot.clientWidth;
        draw();
      }
    }).observe(plot);
  };

  for (const figure of document.querySelectorAll("[data-chart]")) start(figure);
}
