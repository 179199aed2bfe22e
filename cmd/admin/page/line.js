// The pipeline as it is: one line of log, and how far each stage is through it.
import { byId, el, keep, svg, text } from "./dom.js";
import { bytes, seconds } from "./format.js";

const order = ["received", "published", "synced", "purged", "settled", "replayed", "confirmed"];
const meaning = {
  received: "the reader has it", published: "the stream has acknowledged it", synced: "it is on disk",
  purged: "the sink has purged it", settled: "promised repeats are done too", confirmed: "PostgreSQL may forget it",
};

// most is the distance that fills a whole track. The scale is logarithmic: what
// matters is whether a stage is a row behind, or a day.
const most = Math.log2(1 + 4 * 1024 ** 3 / 1024);
// share is the part of a track that is missing; nothing reaches anywhere while that is unknown.
const share = (behind) => behind === null ? 1 : Math.min(1, Math.log2(1 + behind / 1024) / most);

// shown are the marks in order; settled only where it says something else than purged.
function shown(marks) {
  const purged = new Map(marks.filter((m) => m.stage === "purged").map((m) => [m.target, m.lsn]));
  return marks.filter((m) => m.stage !== "settled" || purged.get(m.target) !== m.lsn)
    .map((m, i) => [order.indexOf(m.stage) * 1000 + i, m]).sort((a, b) => a[0] - b[0]).map(([, m]) => m);
}

const nameOf = (m) => m.target ? m.stage + " (" + m.target + ")" : m.stage;

export function drawLine(marks) {
  const box = byId("line");
  const width = Math.max(260, box.clientWidth);
  const narrow = width < 620;
  const left = narrow ? 0 : Math.min(260, Math.max(150, 30 + 7.4 * Math.max(...marks.map((m) => nameOf(m).length))));
  const right = narrow ? 0 : 178;
  const step = narrow ? 40 : 28;
  const track = width - left - right;
  const list = shown(marks);
  const height = list.length * step + 26;
  const at = (m) => left + track * (1 - share(m.lag_bytes));
  const parts = [];
  for (const [behind, label] of [[64 * 1024, "64 KiB"], [8 * 1024 ** 2, "8 MiB"], [1024 ** 3, "1 GiB"]]) {
    const x = left + track * (1 - share(behind));
    parts.push(svg("line", { class: "grid", x1: x, x2: x, y1: 0, y2: height - 20 }),
      svg("text", { class: "dim", x, y: height - 6, "text-anchor": "middle" }, label + (narrow ? "" : " behind")));
  }
  parts.push(svg("text", { class: "dim", x: left + track, y: height - 6, "text-anchor": "end" }, "newest"));
  const front = [];
  list.forEach((m, i) => {
    const top = i * step + (narrow ? 18 : 7);
    const x = at(m);
    // Where the log ends is not known while the database is out of sight, and so neither is
    // how far a bar reaches.
    const known = m.lsn !== "0/0" && m.lag_bytes !== null;
    const distance = m.lsn === "0/0" ? "nothing yet" : (m.lag_bytes === 0 ? "level" : bytes(m.lag_bytes)) + ", " + seconds(m.lag_seconds);
    parts.push(
      svg("rect", { class: !known ? "unknown" : m.lag_bytes > 0 ? "behind" : "track", x: left, y: top, width: track, height: 14, rx: 3, opacity: m.lag_bytes > 0 ? 0.45 : 1 }),
      svg("rect", { class: known ? "through" : "unknown", x: left, y: top, width: known ? Math.max(0, x - left) : 0, height: 14, rx: 3 }),
      svg("text", narrow ? { x: 0, y: top - 5 } : { x: left - 12, y: top + 11.5, "text-anchor": "end" }, nameOf(m), svg("title", null, meaning[m.stage] ?? "")),
      svg("text", { class: "dim", x: width, y: narrow ? top - 5 : top + 11.5, "text-anchor": "end" }, distance));
    if (known) front.push([x + "," + (top - 2), x + "," + (top + 16)]);
  });
  // Where the texts are between the bars, the front is not drawn through them.
  for (const points of narrow ? front : [front.flat()]) parts.push(svg("polyline", { class: "front", points: points.join(" ") }));
  box.replaceChildren(svg("svg", {
    role: "img", width, height, viewBox: "0 0 " + width + " " + height,
    "aria-label": "Watermarks: " + list.map((m) => nameOf(m) + " is " + bytes(m.lag_bytes) + " behind").join(", "),
  }, ...parts));
  table(marks);
}

function table(marks) {
  keep(byId("marks").tBodies[0], marks, nameOf,
    () => el("tr", null, el("th", { scope: "row" }), el("td"), el("td", { class: "n v" }), el("td", { class: "n" }), el("td", { class: "n" }), el("td", { class: "n" })),
    (row, m) => [m.stage, m.target ?? "", m.lsn, m.timeline, bytes(m.lag_bytes), seconds(m.lag_seconds)].forEach((value, i) => text(row.cells[i], value)));
}
