"use strict";
// Charts of the report: zoom by dragging or with the keyboard, values under the cursor.
const data = JSON.parse(document.getElementById("data").textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (x, digits = 4) => {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const size = Math.abs(x);
  const [unit, letter] = size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
  return +(x / unit).toPrecision(digits) + letter;
};
// The numbers along an axis, with as many digits as tell them apart. uPlot gives the step between them.
const ticks = (u, values, axis, space, step) =>
  values.map((x) => short(x, Math.max(4, 2 + Math.ceil(Math.log10(Math.abs(x) / step)))));

// One x for all lines: where a line has no point its value is null.
function aligned(lines) {
  if (!lines.length) return [[]];
  return uPlot.join(lines.map((line) => (line.low ? [line.x, line.y, line.low, line.high] : [line.x, line.y])));
}

function draw(box, lines, xLabel, yLabel) {
  const series = [{ label: xLabel, value: (_, x) => short(x, 6) }];
  const bands = [];
  for (const line of lines) {
    const at = series.length;
    const value = (u, y, i, k) => {
      if (k === null || y === null || y === undefined) return "–";
      return line.low ? `${short(y)} (${short(u.data[at + 1][k])} … ${short(u.data[at + 2][k])})` : short(y);
    };
    const points = { show: line.x.length < 3 };
    const stroke = colour(line.colour);
    series.push({ label: line.label, stroke, width: 2, dash: line.dash, spanGaps: true, points, value });
    if (line.low) {
      const bound = { spanGaps: true, stroke: "transparent", points: { show: false }, class: "u-bound" };
      series.push({ ...bound, label: `${line.label}, low` }, { ...bound, label: `${line.label}, high` });
      bands.push({ series: [at + 2, at + 1], fill: stroke + colour("--band") });
    }
  }
  const axis = { stroke: colour("--ink"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const room = (_, values) => Math.max(64, 22 + 7 * Math.max(...(values || []).map((text) => text.length)));
  const options = {
    width: Math.max(240, box.clientWidth - 16), height: 340, series, bands,
    scales: { x: { time: false } },
    legend: { markers: { dash: (_, i) => (series[i].dash ? "dashed" : "solid") } },
    axes: [{ ...axis, label: xLabel, values: ticks, space: 70 }, { ...axis, label: yLabel, values: ticks, size: room }],
    cursor: { drag: { x: true, y: true, uni: 20 } },
  };
  box.replaceChildren();
  const chart = new uPlot(options, aligned(lines), box);
  box.querySelectorAll(".u-legend .u-series").forEach((row, i) => {
    if (series[i] && series[i].class) row.classList.add(series[i].class);
  });
  return chart;
}

// Left and right move the cursor, + and - zoom, 0 shows everything.
function keyboard(box, current, say) {
  let at = 0;
  box.addEventListener("keydown", (event) => {
    const chart = current(), xs = chart.data[0], low = chart.scales.x.min, high = chart.scales.x.max;
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in moves) {
      at = Math.min(xs.length - 1, Math.max(0, at + moves[event.key]));
      chart.setCursor({ left: chart.valToPos(xs[at], "x"), top: 10 });
      say.textContent = `${short(xs[at], 6)}: ` + chart.series.slice(1)
        .map((s, i) => (s.class || chart.data[i + 1][at] == null ? "" : `${s.label} ${short(chart.data[i + 1][at])}`))
        .filter(Boolean).join("; ");
    } else if (event.key === "+" || event.key === "-") {
      const middle = xs[at] >= low && xs[at] <= high ? xs[at] : (low + high) / 2;
      const first = xs[0], last = xs[xs.length - 1], part = (middle - low) / (high - low);
      const span = Math.min(last - first, (high - low) * (event.key === "+" ? 0.6 : 1 / 0.6));
      const min = Math.max(first, Math.min(last - span, middle - part * span));
      chart.setScale("x", { min, max: min + span });
    } else if (event.key === "0") {
      chart.setData(chart.data);
    } else return;
    event.preventDefault();
  });
}

// For each chart a function that shows the data as they are by now. A chart that is zoomed stays so.
const charts = [];

function install(id, lines, yLabel) {
  const box = document.getElementById(id);
  if (!box) return;
  let chart = null;
  const redraw = () => { chart?.destroy(); chart = draw(box, lines(), data.x, yLabel()); };
  redraw();
  charts.push(() => {
    const xs = chart.data[0], { min, max } = chart.scales.x;
    const zoomed = min > xs[0] || max < xs[xs.length - 1];
    chart.setData(aligned(lines()), !zoomed);
    if (zoomed) chart.redraw();
  });
  keyboard(box, () => chart, document.getElementById(id + "-values"));
  document.getElementById(id + "-reset").addEventListener("click", () => chart.setData(chart.data));
  const fit = () => chart.setSize({ width: Math.max(240, box.clientWidth - 16), height: 340 });
  addEventListener("resize", () => requestAnimationFrame(fit));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  return redraw;
}

install("curves", () => data.curves, () => data.y);
const choice = document.getElementById("metric");
if (choice) {
  const redraw = install("metrics", () => data.runs.filter((run) => choice.value in run.metrics)
    .map((run) => ({ ...run, ...run.metrics[choice.value] })), () => choice.value);
  choice.addEventListener("change", redraw);
}
