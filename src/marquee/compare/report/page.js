"use strict";
// Sorting, filtering, light and dark, and the figures, which are drawn when they come into view.
(function () {
  const content = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Light and dark ---------------------------------------------------------------------------------------------------

  const themeButton = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

  function showTheme() {
    themeButton.setAttribute("aria-pressed", String(isDark()));
    redraw();
  }

  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("marquee-theme", root.dataset.theme); } catch (error) { /* a page opened as a file */ }
    showTheme();
  });
  try {
    const kept = localStorage.getItem("marquee-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch (error) { /* the system's choice then holds */ }
  dark.addEventListener("change", showTheme);

  // Tables -----------------------------------------------------------------------------------------------------------

  function key(cell) {
    const value = cell.dataset.key;
    if (value === undefined || value === "") return null;
    return cell.matches(".number") ? Number(value) : value.toLowerCase();
  }

  function sort(table, column, direction) {
    const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[column]), row]);
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort(([one], [other]) => {
      if (one === null || other === null) return (one === null) - (other === null); // what is missing stays last
      return sign * (one < other ? -1 : one > other ? 1 : 0);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
    for (const head of table.tHead.rows[0].cells) {
      head.setAttribute("aria-sort", head.cellIndex === column ? direction : "none");
    }
  }

  for (const table of document.querySelectorAll("table.scores")) {
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const head = button.closest("th");
      const now = head.getAttribute("aria-sort");
      const first = button.dataset.first || "ascending";
      const other = { ascending: "descending", descending: "ascending" };
      sort(table, head.cellIndex, now === "none" ? first : other[now]);
    });
    const text = document.querySelector(`[data-filter="${table.id}"]`);
    const family = document.querySelector(`select[data-family="${table.id}"]`);
    const filter = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      let all = 0;
      for (const row of table.tBodies[0].rows) {
        if (!row.matches(".model")) continue; // baselines and oracle always stand
        const content = row.textContent.toLowerCase();
        const kept = words.every((word) => content.includes(word))
          && (!family || !family.value || row.dataset.family === family.value);
        row.hidden = !kept;
        all += 1;
        shown += kept;
      }
      document.getElementById(`${table.id}-shown`).textContent = `${shown} of ${all} configurations shown`;
    };
    text.addEventListener("input", filter);
    if (family) family.addEventListener("change", filter);
    filter();
  }

  // Figures ----------------------------------------------------------------------------------------------------------

  const drawn = new Map(); // figure's number -> Vega view

  function config() {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const ink = colour("--ink");
    const words = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
    return {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      axis: { ...words, gridColor: colour("--line"), domainColor: colour("--soft"), tickColor: colour("--soft") },
      legend: words,
      text: { color: ink, fontSize: 12 },
      rule: { color: ink },
      view: { stroke: null },
    };
  }

  function dataNames(node, found) {
    if (node === null || typeof node !== "object") return found;
    if (node.data && node.data.name) found.add(node.data.name);
    for (const value of Object.values(node)) dataNames(value, found);
    return found;
  }

  function specification(place) {
    const choice = document.querySelector(`[data-choice="${place}"]`);
    const paper = getComputedStyle(root).getPropertyValue("--paper").trim();
    let text = JSON.stringify(content.figures[place][choice ? Number(choice.value) : 0]);
    text = text.replaceAll('"halo"', JSON.stringify(paper));
    // On dark, the palette's yellow takes the place of its blue, and the scale starts where it can be seen.
    if (isDark()) text = text.replaceAll("#0072B2", "#F0E442").replaceAll('"extent":[0,0.85]', '"extent":[0.25,1]');
    if (innerWidth < 480) text = text.replaceAll('"columns":2', '"columns":1');
    const result = { height: 260, ...JSON.parse(text) };
    result.datasets = {};
    for (const name of dataNames(result, new Set())) result.datasets[name] = structuredClone(content.data[name]);
    result.config = config();
    return result;
  }

  async function draw(chart) {
    const place = Number(chart.dataset.figure);
    const before = drawn.get(place);
    const spec = specification(place);
    const room = Math.max(chart.clientWidth, 260);
    let width = Math.max(room - 110, 170);
    spec.width = width;
    spec.padding = 6;
    const options = { actions: false, renderer: "svg", ast: true, tooltip: true };
    const { view } = await vegaEmbed(chart, spec, options);
    if (before) before.finalize();
    drawn.set(place, view);
    // Names beside the axes and the bars take what they need; the plot takes the rest.
    for (let turn = 0; turn < 4; turn += 1) {
      const svg = chart.querySelector("svg");
      const over = Number(svg.getAttribute("width")) - room;
      const next = Math.max(width - over, 140);
      if (Math.abs(next - width) < 2) break;
      width = next;
      await view.width(width).runAsync();
    }
    chart.classList.add("drawn");
  }

  const charts = [...document.querySelectorAll(".chart")];
  const pending = new Set(charts);

  function start(chart) {
    if (!pending.delete(chart)) return Promise.resolve();
    return draw(chart);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        start(entry.target);
      }
    }
  }, { rootMargin: "300px" });
  charts.forEach((chart) => seen.observe(chart));

  function redraw() {
    for (const chart of charts) if (!pending.has(chart)) draw(chart);
  }

  for (const choice of document.querySelectorAll("[data-choice]")) {
    choice.addEventListener("change", () => {
      const chart = document.getElementById(`figure-${choice.dataset.choice}`);
      if (!pending.has(chart)) draw(chart);
    });
  }

  let wide = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (innerWidth !== wide) { wide = innerWidth; redraw(); }
    }, 200);
  });

  document.getElementById("print").addEventListener("click", async () => {
    const chosen = root.dataset.theme;
    root.dataset.theme = "light"; // paper is
    pending.clear();
    await Promise.all(charts.map(draw));
    print();
    if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
    showTheme();
  });
  addEventListener("beforeprint", () => charts.forEach(start));
  themeButton.setAttribute("aria-pressed", String(isDark()));
})();
