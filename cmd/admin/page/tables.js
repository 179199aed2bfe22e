// Sinks, parked messages, rules, incidents.
import { byId, el, keep, text } from "./dom.js";
import { button, flash, post } from "./act.js";
import { clock, count, rate, seconds } from "./format.js";

const tone = { ok: "fresh", gated: "stale", throttled: "stale", flushing: "stale", paused: "stale", blocked: "down" };
const cell = (label, cls) => el("td", { class: cls, "data-label": label });

// sinks shows lanes; again is called after one was paused or resumed.
export function sinks(list, history, again) {
  const turn = (name, path, done) => button(path === "pause" ? "Pause" : "Resume", async () => {
    await post("/api/v1/" + path, { sink: name });
    again();
    return name + done;
  });
  keep(byId("sinks").tBodies[0], list, (s) => s.name, (s) => {
    const pause = turn(s.name, "pause", " is paused; its invalidations wait until it is resumed or the daemon restarts");
    const resume = turn(s.name, "resume", " goes on");
    pause.setAttribute("aria-label", "Pause " + s.name);
    resume.setAttribute("aria-label", "Resume " + s.name);
    return el("tr", null, el("th", { scope: "row" }, s.name + " ", el("span", { class: "kind" }, s.kind)),
      el("td", { class: "full" }, el("span", { class: "badge" }), el("span", { class: "why" })),
      cell("Lag", "n"), cell("Commit to purge", "n"), cell("Purges/s", "n"), cell("Waiting", "n"), cell("Parked", "n"), el("td", { class: "act" }, pause, resume));
  }, (row, s) => {
    const [, state, lag, latency, purges, waiting, parked, act] = row.cells;
    state.firstChild.dataset.tone = tone[s.state] ?? "";
    text(state.firstChild, s.state);
    text(state.lastChild, s.error ?? "");
    text(lag, seconds(s.lag_seconds));
    const mean = history.latency(s.name);
    text(latency, mean === null ? "–" : seconds(mean));
    latency.title = "mean of the last minute";
    text(purges, rate(history.purges(s.name).at(-1)?.v));
    text(waiting, count(s.backlog));
    text(parked, count(s.parked));
    parked.className = s.parked > 0 ? "n bad" : "n";
    const [pause, resume] = act.children;
    const hadFocus = act.contains(document.activeElement);
    pause.hidden = s.state === "paused";
    resume.hidden = s.state !== "paused";
    if (hadFocus) (pause.hidden ? resume : pause).focus({ preventScroll: true });
  });
}

// problems shows what a person must correct, and below it what `unknown` covers and rules that may name what
// no cache has.
export function problems(found, suspicions) {
  const list = found.concat((suspicions ?? []).map((s) => ({ rules: [s.rule], sinks: [s.sink], covered: true, text: s.text })));
  byId("problems-section").hidden = list.length === 0;
  keep(byId("problems").tBodies[0], list, (p) => p.text,
    (p) => el("tr", null, el("th", { scope: "row" }, p.rules.join(", ")), el("td", null, el("span", { class: "badge", "data-tone": p.covered ? "" : "down" }, p.covered ? "note" : "stale")),
      el("td", { "data-label": "Sinks" }, p.sinks.join(", ")), el("td", { class: "when", "data-label": "Since" }, p.since ? clock(p.since) : "the last hour"), el("td", { class: "full" }, p.text)), () => {});
}

const mostParked = 100;
const mostValues = 5;

// Parked shows what sinks refuse; it asks for the list when the number changes.
export class Parked {
  constructor(again) {
    this.again = again;
    this.known = "";
    byId("retry-all").replaceWith(this.all = button("Retry all", () => this.settle({ action: "retry", all: true }, "are tried again"), "Really retry all?"));
  }

  async settle(request, done) {
    const { done: n } = await post("/api/v1/parked", request);
    this.known = "";
    this.again();
    return n + (n === 1 ? " message " : " messages ") + done;
  }

  async show(list) {
    const now = JSON.stringify(list.map((s) => [s.name, s.parked]));
    if (now === this.known) return;
    this.known = now;
    byId("parked-section").hidden = list.every((s) => s.parked === 0);
    try {
      const response = await fetch("/api/v1/parked");
      const parked = await response.json();
      if (!response.ok) throw new Error(parked.error);
      this.draw(parked.slice(0, mostParked));
    } catch (err) {
      this.known = "";
      flash("The list of parked messages cannot be read: " + err.message, "failed");
    }
  }

  draw(list) {
    keep(byId("parked").tBodies[0], list, (p) => p.id, (p) => {
      const retry = button("Retry", () => this.settle({ action: "retry", ids: [p.id] }, "tried again"));
      const drop = button("Drop", () => this.settle({ action: "drop", ids: [p.id] }, "dropped"), "Drop for good?");
      retry.setAttribute("aria-description", "message " + p.id);
      drop.setAttribute("aria-description", "message " + p.id);
      const more = p.items.length - mostValues;
      return el("tr", null, el("th", { scope: "row" }, p.sink + " ", el("span", { class: "kind" }, "#" + p.id)), el("td", { class: "when", "data-label": "Since" }, clock(p.parked_at)),
        el("td", { class: "full", "data-label": "Values" }, el("ul", { class: "values" },
          p.items.slice(0, mostValues).map((v) => el("li", null, el("span", { class: "kind" }, v.rule + " " + (v.kind ?? "") + " "), el("code", null, v.template ?? v.value),
            v.template ? " not built for " + count(v.count) + " changes" : "")),
          more > 0 ? el("li", { class: "kind" }, "and " + more + " more") : null)),
        el("td", { class: "full", "data-label": "Answer" }, p.error), el("td", { class: "act" }, p.items.some((v) => v.template) ? null : retry, drop));
    }, () => {});
  }
}

export function rules(list) {
  keep(byId("rules").tBodies[0], list, (r) => r.name,
    () => el("tr", null, el("th", { scope: "row" }), el("td", { class: "full v" }), cell("Matches", "n"), cell("Invalidations", "n"), cell("Unknown", "n"), cell("Errors", "n")),
    (row, r) => {
      [r.name, r.of].forEach((value, i) => text(row.cells[i], value));
      [r.matches, r.invalidations, r.unknown, r.errors].forEach((value, i) => text(row.cells[i + 2], count(value)));
      row.cells[4].className = r.unknown > 0 ? "n warn" : "n";
      row.cells[5].className = r.errors > 0 ? "n bad" : "n";
    });
}

export function incidents(list) {
  byId("no-incidents").hidden = list.length > 0;
  byId("incidents").hidden = list.length === 0;
  keep(byId("incidents").tBodies[0], list, (i) => i.at + i.kind + (i.sink ?? ""),
    (i) => el("tr", null, el("td", { class: "when", title: i.at }, clock(i.at)), el("td", null, i.kind), el("td", null, i.sink ?? "every sink"), el("td", null, i.reason)), () => {});
}
