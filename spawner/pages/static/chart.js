// A chart over the last quarter of an hour: uPlot's lines, a caption that says the numbers, and the
// same as a table for those who do not see it. Without uPlot the caption and the table are left.

import { element, say } from "./dom.js";
import { time } from "./words.js";

const WINDOW_SECONDS = 900;
const HEIGHT = 170;
const TABLE_STEPS = 15;

/** Distances of the marks on an axis of memory. */
export const MEMORY_STEPS = Array.from({ length: 24 }, (_, power) => 2 ** (power + 20));

const uPlot = await import("./vendor/uPlot.esm.js").then((found) => found.default, () => null);

/**
 * series: [{label, color, fill, dash, step, scale, format}], colour being a CSS variable's name.
 * update(columns, now): columns[0] the times, then one for each series.
 */
export class Chart {
  constructor({ title, series, format, steps }) {
    this.title = title;
    this.series = series;
    this.format = format;
    this.steps = steps;
    this.columns = null;
    this.readout = element("span", { class: "enf-readout" });
    this.canvas = element("div", { class: "enf-canvas", role: "img" });
    this.rows = element("tbody");
    this.table = element("details", { class: "enf-table-alternative", ontoggle: () => this.fillTable() },
      element("summary", {}, "As a table"),
      element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Time"),
          ...series.map((one) => element("th", { scope: "col" }, one.label)))),
        this.rows));
    this.element = element("figure", { class: "enf-chart" },
      element("figcaption", {}, element("span", { class: "enf-chart-title" }, title), this.readout),
      this.canvas,
      element("p", { class: "enf-legend", "aria-hidden": "true" },
        ...series.map((one) => element("span", { class: "enf-legend-item" },
          element("span", { class: `enf-swatch enf-swatch-${one.color}${one.dash ? " enf-swatch-dashed" : ""}` }), one.label))),
      this.table);
    this.plot = null;
    this.observers = [];
  }

  update(columns, now) {
    this.columns = columns;
    this.now = now;
    if (uPlot && columns[0].length) this.draw();
    this.caption(columns[0].length - 1);
    if (this.table.open) this.fillTable();
  }

  draw() {
    if (!this.plot) {
      this.plot = new uPlot(this.options(), this.columns, this.canvas);
      const resized = new ResizeObserver(() => this.plot.setSize(this.size()));
      const themed = new MutationObserver(() => this.plot.redraw(false));
      resized.observe(this.canvas);
      themed.observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
      this.observers = [resized, themed];
      return;
    }
    this.plot.setData(this.columns);
  }

  /** Let go of the page, which would keep what is drawn no more. */
  end() {
    for (const one of this.observers) one.disconnect();
    this.plot?.destroy();
  }

  size() {
    return { width: Math.max(200, this.canvas.clientWidth), height: HEIGHT };
  }

  options() {
    const axis = {
      stroke: () => color("soft"),
      grid: { stroke: () => color("grid"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    return {
      ...this.size(),
      padding: [8, 22, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: {
        x: { range: () => [this.now - WINDOW_SECONDS, this.now] },
        y: { range: (_, low, high) => [0, (high || 1) * 1.08] },
        share: { range: [0, 1] },
      },
      axes: [
        { ...axis, size: 24, space: 70, values: (_, at) => at.map((one) => time(one)) },
        { ...axis, size: 62, space: 34, incrs: this.steps, values: (_, at) => at.map((one) => this.format(one)) },
      ],
      series: [{}, ...this.series.map((one) => ({
        label: one.label,
        scale: one.scale || "y",
        stroke: () => color(one.color),
        fill: one.fill ? () => color(`${one.color}-fill`) : undefined,
        width: one.scale === "share" ? 0 : one.dash ? 1.25 : 1.75,
        dash: one.dash ? [5, 4] : undefined,
        // a sample tells of the time before it
        paths: one.step ? uPlot.paths.stepped({ align: -1 }) : undefined,
        points: { show: false },
      }))],
      hooks: { setCursor: [(plot) => this.caption(plot.cursor.idx ?? this.columns[0].length - 1)] },
    };
  }

  caption(index) {
    if (!this.columns || index < 0) {
      say(this.readout, "nothing yet");
      return;
    }
    const said = this.series.map((one, number) => {
      const value = this.said(one, number, index);
      return value === null || one.quiet ? null : `${one.label} ${value}`;
    });
    const text = `${time(this.columns[0][index], true)} · ${said.filter(Boolean).join(" · ")}`;
    say(this.readout, text);
    this.canvas.setAttribute("aria-label", `${this.title}, the last 15 minutes. ${text}`);
  }

  said(series, number, index) {
    const value = this.columns[number + 1][index];
    return value === null || value === undefined ? null : (series.format || this.format)(value);
  }

  fillTable() {
    if (!this.table.open || !this.columns) return;
    const times = this.columns[0];
    const step = Math.max(1, Math.ceil(times.length / TABLE_STEPS));
    const rows = [];
    for (let at = times.length - 1; at >= 0; at -= step) {
      rows.push(element("tr", {}, element("td", {}, time(times[at], true)),
        ...this.series.map((one, number) => element("td", {}, this.said(one, number, at) ?? "–"))));
    }
    this.rows.replaceChildren(...rows);
  }
}

/** Columns that grow: what is new is added, what is older than the window goes. */
export class Columns {
  constructor(keys) {
    this.keys = keys;
    this.kept = Object.fromEntries(keys.map((key) => [key, []]));
  }

  get last() {
    return this.kept.at.at(-1) || 0;
  }

  add(fresh) {
    const from = fresh.at.findIndex((at) => at > this.last);
    if (from < 0) return;
    for (const key of this.keys) this.kept[key].push(...fresh[key].slice(from));
    const old = this.kept.at.findIndex((at) => at >= this.last - WINDOW_SECONDS);
    if (old > 0) for (const key of this.keys) this.kept[key].splice(0, old);
  }

  of(key) {
    return this.kept[key];
  }
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--enf-${name}`).trim() || "#888";
}
