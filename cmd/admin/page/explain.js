// Asks the rules in service what they make of a change.
import { byId, el } from "./dom.js";
import { post } from "./act.js";

const list = (items) => items.length === 0 ? null : el("ul", null, items.map((i) => el("li", null, i)));
const why = (reason) => reason ? " (" + reason + ")" : "";

function term(t) {
  const read = t.columns.map((c) => c.image + "." + c.column + " is " + ({ value: c.value, null: "NULL" }[c.state] ?? c.state)).join(", ");
  return [el("code", null, t.source), ": " + t.result + why(t.error) + (read ? "; " + read : "")];
}

function template(t) {
  return [t.kind + " ", el("code", null, t.template), (t.image ? " from the " + t.image + " row" : "") + ": ",
    t.values.length ? el("code", null, t.values.join(", ")) : "nothing", why(t.skipped) + instead(t)];
}

// instead says what happens for values that could not be built.
function instead(t) {
  if (!t.unknown) return "";
  if (!t.instead) return "; unknown stands in";
  return "; no unknown: " + t.instead.map((i) => i.parked ? "parked at " + i.sink
    : (i.kind === "key_pattern" ? "pattern" : "prefix") + " purge " + i.value + " at " + i.sink).join(", ");
}

function article(x) {
  return el("article", null,
    el("h3", null, x.rule + " ", el("span", { class: "badge", "data-tone": x.matched ? "fresh" : null }, x.matched ? "matches" : "does not match")),
    el("p", null, x.why, el("span", { class: "why" }, x.file + ":" + x.line)),
    x.tried.map((t) => [el("p", null, "Condition with the " + t.image + " row: " + t.result + why(t.error)), list(t.terms.map(term))]),
    list((x.lookups ?? []).map((q) => "lookup " + q.lookup + ": " + q.rows + " rows" + why(q.skipped) + (q.unknown ? "; unknown stands in" : ""))),
    x.templates.length ? el("p", null, "Templates") : null, list(x.templates.map(template)),
    x.purges.length ? el("p", null, "Purges") : null,
    list(x.purges.map((p) => [el("b", null, p.sink), (p.parked ? " parked, one item for " : " ") + (p.parked && p.kind === "everything" ? "" : p.kind + " "),
      el("code", null, p.parked ? p.for : p.value), p.for && !p.parked ? " (at most once a minute)" : "", p.withheld ? " (kept back by rollout)" : ""])));
}

export function prepareExplain() {
  const form = byId("explain");
  const out = byId("explained");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      out.replaceChildren(...(await post("/api/v1/explain", byId("change").value)).map(article));
    } catch (err) {
      out.replaceChildren(el("p", { class: "bad" }, err.message));
    }
  });
  byId("change").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

// suggest writes an example for one of the rules, once.
export function suggest(rules) {
  const box = byId("change");
  const rule = rules.find((r) => r.of.includes(".") && !r.of.includes("{"));
  if (box.dataset.suggested || !rule) return;
  box.dataset.suggested = "yes";
  if (box.value === "") box.value = '{"table": ' + JSON.stringify(rule.of) + ',\n "update": {"old": {"id": 7}, "new": {"id": 7}}}';
}
