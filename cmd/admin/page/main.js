// The status page: draws what the daemon says of itself, once a second.
import { byId, el, facts, printable, text } from "./dom.js";
import { flash, rememberToken } from "./act.js";
import { ago, bytes, clock, rate, seconds } from "./format.js";
import { drawChart, round, roundSeconds } from "./chart.js";
import { drawLine } from "./line.js";
import { Feed } from "./feed.js";
import { History } from "./history.js";
import { incidents, Parked, problems, rules, sinks } from "./tables.js";
import { prepareExplain, suggest } from "./explain.js";

const freshWithin = 10; // seconds, as the daemon judges

let status = null;
const history = new History();
const refresh = () => feed.ask();
const parked = new Parked(refresh);

// stateOf sorts a status into colours: down needs somebody now.
function stateOf(s) {
  if (s.reader.state === "standby") return "unknown";
  if ((s.reader.state !== "streaming" && s.reader.state !== "catching_up") || s.problems.some((p) => !p.covered) || s.sinks.some((k) => k.state === "blocked" && !(k.lag_seconds < freshWithin))) return "down";
  if (s.fresh) return "fresh";
  return s.sinks.some((k) => k.lag_seconds !== null) ? "stale" : "unknown";
}

// verdict shows a sentence: its first words large, each further clause below.
function verdict(state, summary) {
  const word = /^(FRESH|STALE|UNKNOWN|NOT STREAMING|NO ANSWER)/.exec(summary)?.[0] ?? "STATUS";
  const clauses = summary.slice(summary.startsWith(word) ? word.length : 0).replace(/^[:,]? /, "").split(/; (?=STALE|UNKNOWN|NOT STREAMING)/);
  byId("verdict").dataset.state = state;
  text(byId("word"), word[0] + word.slice(1).toLowerCase());
  text(byId("sentence"), clauses[0]);
  while (byId("verdict").children.length > 2) byId("verdict").lastChild.remove();
  byId("verdict").append(...clauses.slice(1).map((c) => el("p", null, c)));
  const title = word + (status ? " · " + status.pipeline : "") + " · walpurge";
  if (document.title !== title) document.title = title;
  const icon = "/page/" + state + ".svg";
  if (byId("icon").getAttribute("href") !== icon) byId("icon").setAttribute("href", icon);
  // Said aloud when it means something else, not whenever a figure has moved.
  const spoken = byId("announce");
  const gist = summary.replace(/[\d.,]+/g, "");
  if (spoken.dataset.gist !== gist) {
    spoken.dataset.gist = gist;
    spoken.textContent = printable(summary);
  }
}

// backlogOf shows how far the reader is behind while it catches up.
function backlogOf(c) {
  if (!c) return [];
  return [["backlog", bytes(c.left_bytes) + " of the log left"], ["rate", Math.round(c.changes_per_second).toLocaleString("en") + " changes/s"],
    ["time left", c.seconds === null ? "unknown" : seconds(Math.round(c.seconds))], [null, gauge(c.total_bytes - c.left_bytes, Math.max(1, c.total_bytes), "Backlog that is read"), true]];
}

function condition(s) {
  const now = new Date(s.at);
  facts(byId("reader"), [["state", el("span", { class: "badge", "data-tone": s.reader.state === "streaming" ? "fresh" : s.reader.state === "standby" || s.reader.state === "catching_up" ? "" : "down" }, s.reader.state)],
    ["since", clock(s.reader.since)], ...(s.reader.state === "standby" && s.leader ? [["leader", [s.leader.address, s.leader.host].filter(Boolean).join(" on ")]] : []), ["waits for", s.reader.blocked || "nothing"], ...(s.reader.error ? [["error", s.reader.error]] : []), ...backlogOf(s.reader.catch_up)]);
  // What the database says is as old as the connection to it.
  const inSight = s.reader.state === "streaming" || s.reader.state === "catching_up";
  const safe = s.slot.safe_bytes;
  facts(byId("slot"), [["name", s.slot.name || "–"], ...(inSight ? [] : [["as of", clock(s.reader.since)]]), ["WAL status", el("span", { class: s.slot.state === "lost" || s.slot.state === "unreserved" ? "bad" : "" }, s.slot.state || "–")],
    ["holds back", bytes(Math.max(0, s.slot.retained_bytes))], ["until it is lost", safe === undefined ? "no limit" : bytes(Math.max(0, safe))],
    ...(safe === undefined || !inSight ? [] : [[null, gauge(s.slot.retained_bytes, Math.max(1, s.slot.retained_bytes + safe), "WAL held back, of what the server allows"), true]])]);
  facts(byId("stream"), [["holds", bytes(s.stream.bytes) + " of " + bytes(s.stream.limit_bytes)], ["messages", s.stream.messages.toLocaleString("en")],
    ["replays reach back", seconds(Math.round(s.stream.replay_horizon_seconds))], [null, gauge(s.stream.bytes, s.stream.limit_bytes, "Fill of the stream"), true]]);
  text(byId("pipeline"), s.pipeline);
  text(byId("version"), s.version);
  text(byId("uptime"), "up " + ago(s.started, now));
}

const gauge = (value, max, label) => el("meter", { min: 0, max, high: max * 0.7, optimum: 0, value: Math.max(0, value), "aria-label": label, title: label });

function draw() {
  if (!status) return;
  drawLine(status.watermarks);
  const now = history.now;
  drawChart(byId("lag-chart"), status.sinks.map((s) => ({ name: s.name, values: history.lag(s.name) })), { now, ceiling: roundSeconds, format: seconds, limit: freshWithin });
  drawChart(byId("rate-chart"), [{ name: "changes", values: history.changes() }, ...status.sinks.map((s) => ({ name: "purges " + s.name, values: history.purges(s.name) }))],
    { now, ceiling: round, format: rate });
}

function take(s) {
  status = s;
  history.add(s);
  verdict(stateOf(s), s.summary);
  condition(s);
  problems(s.problems, s.suspicions);
  sinks(s.sinks, history, refresh);
  parked.show(s.sinks);
  rules(s.rules);
  incidents(s.incidents);
  suggest(s.rules);
  draw();
}

function tell(how, silence) {
  byId("feed").dataset.feed = byId("main").dataset.feed = how;
  text(byId("feed"), { live: "live", polling: "asking every 2 s", lost: "no answer" }[how]);
  if (how === "lost") {
    verdict("down", "NO ANSWER from the daemon for " + seconds(Math.floor(silence)) + (status ? "; what is below was so at " + clock(status.at) : ""));
  }
}

rememberToken();
prepareExplain();
flash("", "");
const feed = new Feed(take, tell);
new ResizeObserver(draw).observe(byId("main"));
