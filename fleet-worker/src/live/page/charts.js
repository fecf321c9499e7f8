// Lines over time by uPlot: one chart per signal, and the rates.

import { colour, ticks, unit, value } from "./format.js";

const HEIGHT = 118;
const LETTERS = { m: "measured", i: "interpolated", h: "held" };
// Nearer than this (pixels) the rings of interpolated values would run into each other.
const RINGS = 6;
const SIDE = { size: 62, labelSize: 16 };

const axis = (extra) => ({
  stroke: colour("soft"), grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1 },
  font: "11px system-ui, sans-serif", labelFont: "11px system-ui, sans-serif",
  values: (_, splits, __, ___, step) => ticks(splits, step), ...extra,
});

const times = () => axis({
  space: 70, size: 24,
  values: (_, splits, __, ___, by) => splits.map((s) => new Date(s * 1000).toISOString().slice(11, by < 60 ? 19 : 16)),
});

// A scale that keeps clear of the frame, also where all values are the same.
const padded = (_, low, high) => {
  if (low === null) return [0, 1];
  const pad = (high - low || Math.abs(high) * 0.02 || 1) * 0.08;
  return [low - pad, high + pad];
};

// Records as uPlot wants them: seconds, and NULL where an instant is missing, so that no line bridges it.
export function withGaps(times, columns, how, interval) {
  const out = { times: [], columns: columns.map(() => []), how: how.map(() => []) };
  const push = (seconds, of, letters) => {
    out.times.push(seconds);
    out.columns.forEach((column, c) => column.push(of(c)));
    out.how.forEach((letter, s) => letter.push(letters(s)));
  };
  times.forEach((ms, i) => {
    const gap = i > 0 && ms - times[i - 1] > 1.5 * interval;
    if (gap) push((times[i - 1] + interval) / 1000, () => null, () => "-");
    push(ms / 1000, (c) => columns[c][i], (s) => how[s][i]);
  });
  return out;
}

// Measured values are discs, interpolated ones rings, held ones squares.
function marks(plot, how) {
  const g = plot.ctx;
  const scale = devicePixelRatio;
  const [x0, x1] = [plot.valToPos(plot.scales.x.min, "x", true), plot.valToPos(plot.scales.x.max, "x", true)];
  const rings = (x1 - x0) / scale / Math.max(1, plot.data[0].length) >= RINGS;
  g.save();
  g.lineWidth = 1.3 * scale;
  plot.series.slice(1).forEach((series, s) => {
    plot.data[s + 1].forEach((v, i) => {
      if (v === null || (how[i] === "i" && !rings)) return;
      const [x, y] = [plot.valToPos(plot.data[0][i], "x", true), plot.valToPos(v, series.scale, true)];
      g.beginPath();
      if (how[i] === "h") {
        g.fillStyle = colour("orange");
        g.fillRect(x - 2 * scale, y - 2 * scale, 4 * scale, 4 * scale);
        return;
      }
      g.arc(x, y, (how[i] === "m" ? 2.6 : 2.2) * scale, 0, 2 * Math.PI);
      g.fillStyle = how[i] === "m" ? series.stroke() : colour("card");
      g.strokeStyle = series.stroke();
      g.fill();
      g.stroke();
    });
  });
  g.restore();
}

const STROKES = ["blue", "orange", "text", "soft"];

// One signal's chart in a figure; the picture can be read as text too.
export class SignalChart {
  #figure;
  #values;
  #counts;
  #plot = null;
  #signal;
  #apart;
  #right;
  #how = [];

  // Columns of a position have nothing in common but the unit, and get a scale each, the second one on
  // the right; `beside` such a chart the others leave as much room there.
  constructor(parent, signal, apart, beside) {
    this.#signal = signal;
    this.#apart = apart;
    this.#right = apart ? 0 : beside ? SIDE.size + SIDE.labelSize : 20;
    this.#figure = document.createElement("figure");
    this.#figure.dataset.signal = signal.name;
    const caption = document.createElement("figcaption");
    const name = document.createElement("b");
    name.textContent = signal.name;
    [this.#values, this.#counts] = ["values", "counts"].map((kind) => {
      const part = document.createElement("span");
      part.className = kind;
      return part;
    });
    caption.append(name, this.#values, this.#counts);
    this.#figure.append(caption);
    parent.append(this.#figure);
  }

  show(times, columns, how) {
    this.#how = how;
    const counts = { m: 0, i: 0, h: 0 };
    for (const letter of how) if (letter in counts) counts[letter]++;
    for (const [letter, word] of Object.entries(LETTERS)) this.#figure.dataset[word] = counts[letter];
    const told = Object.entries(LETTERS).filter(([letter]) => counts[letter] > 0);
    this.#counts.textContent = told.map(([letter, word]) => `${counts[letter]} ${word}`).join(" · ") || "no value";
    const data = [times, ...columns];
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.#figure);
    this.#read(null);
  }

  restyle() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  resize() {
    this.#plot?.setSize({ width: this.#figure.clientWidth, height: HEIGHT });
  }

  remove() {
    this.restyle();
    this.#figure.remove();
  }

  // The values at the cursor, or else the newest ones.
  #read(index) {
    const data = this.#plot?.data;
    if (!data) return;
    const texts = this.#signal.columns.map((column, c) => {
      let i = index ?? data[0].length - 1;
      if (index === null) while (i > 0 && data[c + 1][i] === null) i--;
      const name = this.#signal.columns.length > 1 ? `${column.name} ` : "";
      return `${name}${value(data[c + 1][i], column, this.#apart)} ${unit(column.unit)}`;
    });
    this.#values.textContent = texts.join(" · ");
  }

  #options() {
    const columns = this.#signal.columns;
    const scale = (c) => (this.#apart ? `y${c}` : "y");
    const scales = { x: { time: true } };
    const axes = [times()];
    columns.forEach((column, c) => {
      if (scale(c) in scales) return;
      scales[scale(c)] = { range: padded };
      const label = this.#apart ? `${column.name} ${unit(column.unit)}` : unit(column.unit);
      axes.push(axis({
        scale: scale(c), side: c === 0 ? 3 : 1, label, space: 24, ...SIDE,
        ...(c > 0 ? { grid: { show: false } } : {}), ...(this.#apart ? { stroke: colour(STROKES[c]) } : {}),
      }));
    });
    return {
      width: this.#figure.clientWidth, height: HEIGHT, scales, axes, padding: [8, this.#right, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "vehicle", scales: ["x", null] }, drag: { x: false, y: false }, points: { size: 6 } },
      series: [{}, ...columns.map((column, c) => ({
        label: column.name, scale: scale(c), stroke: colour(STROKES[c % STROKES.length]), width: 1.5,
        points: { show: false }, spanGaps: false,
      }))],
      hooks: {
        draw: [(plot) => marks(plot, this.#how)],
        setCursor: [(plot) => this.#read(plot.cursor.idx ?? null)],
      },
    };
  }
}

// Messages and records a second, as seen by this page.
export class RateChart {
  #parent;
  #plot = null;

  constructor(parent) {
    this.#parent = parent;
  }

  show(data) {
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.#parent);
  }

  restyle() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  resize() {
    this.#plot?.setSize({ width: this.#parent.clientWidth, height: HEIGHT });
  }

  #options() {
    const line = (label, name) => ({ label, stroke: colour(name), width: 1.5, points: { show: false } });
    return {
      width: this.#parent.clientWidth, height: HEIGHT,
      scales: { x: { time: true }, y: { range: (_, __, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
      axes: [times(), axis({ label: "per second", space: 24, ...SIDE })],
      padding: [8, 20, 0, 0],
      legend: { show: false }, cursor: { drag: { x: false, y: false } },
      series: [{}, line("messages", "blue"), line("records", "orange")],
    };
  }
}
