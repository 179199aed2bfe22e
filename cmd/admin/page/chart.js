// A chart of the last five minutes, one line for each series.
import { el, svg } from "./dom.js";

const span = 300;
const dashes = ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 2"];
const look = (i) => ({ class: "plot p" + (i % dashes.length), "stroke-dasharray": dashes[i % dashes.length] || null });

// round is the next number that halves well: in seconds past a minute, such of
// the clock; else one of 1, 2, 5 and their tens.
const clockwork = [2, 4, 10, 20, 60, 120, 240, 600, 1200, 3600, 7200, 14400, 43200, 86400];

export const roundSeconds = (n) => clockwork.find((c) => c >= n) ?? 86400 * Math.ceil(n / 86400);

export function round(n) {
  const tens = 10 ** Math.floor(Math.log10(Math.max(n, 10)));
  return [1, 2, 5, 10].map((f) => f * tens).find((c) => c >= n);
}

// tick leaves out what says nothing: 30 min 0 s is 30 min.
const tick = (label) => label.replace(/ 0 (s|min|h)$/, "").replace(/\.0( |$)/, "$1");

// drawChart shows series {name, values: [{t, v}]}: t in seconds, v null where
// nothing is known. ceiling rounds the highest of them up; limit draws a line at
// what is still good.
export function drawChart(box, series, { now, ceiling, format, limit }) {
  const width = Math.max(240, box.clientWidth);
  const height = 150;
  const [left, bottom, top] = [56, 20, 8];
  const values = series.flatMap((s) => s.values.map((p) => p.v)).filter((v) => v !== null);
  const max = ceiling(Math.max(0, ...values));
  const x = (t) => left + (width - left) * (1 - (now - t) / span);
  const y = (v) => top + (height - top - bottom) * (1 - v / max);
  const parts = [];
  for (const v of [0, max / 2, max]) {
    parts.push(svg("line", { class: "grid", x1: left, x2: width, y1: y(v), y2: y(v) }),
      svg("text", { class: "dim", x: left - 8, y: y(v) + 4, "text-anchor": "end" }, tick(format(v))));
  }
  for (const minutes of [4, 2]) {
    parts.push(svg("text", { class: "dim", x: x(now - 60 * minutes), y: height - 4, "text-anchor": "middle" }, "−" + minutes + " min"));
  }
  parts.push(svg("text", { class: "dim", x: width, y: height - 4, "text-anchor": "end" }, "now"));
  if (limit && limit <= max) parts.push(svg("line", { class: "limit", x1: left, x2: width, y1: y(limit), y2: y(limit) }));
  series.forEach((s, i) => {
    let run = [];
    const flush = () => {
      if (run.length > 1) parts.push(svg("polyline", { ...look(i), points: run.join(" ") }));
      run = [];
    };
    for (const p of s.values) {
      if (now - p.t > span) continue;
      if (p.v === null) flush();
      else run.push(x(p.t).toFixed(1) + "," + y(p.v).toFixed(1));
    }
    flush();
  });
  const latest = (s) => s.values.at(-1)?.v ?? null;
  box.replaceChildren(
    svg("svg", {
      role: "img", width, height, viewBox: "0 0 " + width + " " + height,
      "aria-label": "The last five minutes; now: " + series.map((s) => s.name + " " + say(latest(s), format)).join(", "),
    }, ...parts),
    el("ul", { class: "legend" }, series.map((s, i) => el("li", null,
      svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, svg("line", { ...look(i), x1: 0, x2: 22, y1: 4, y2: 4 })),
      s.name + " ", el("b", null, say(latest(s), format))))));
}

const say = (v, format) => v === null ? "unknown" : format(v);
