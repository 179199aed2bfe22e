// Everything shown is made here, from nodes and texts. No text is ever read as
// markup; the page's policy (Trusted Types) forbids it as well.

const svgNS = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

// printable escapes what changes how the text around it is read: control characters, except line breaks and tabs, and
// changes of the writing direction. Names and errors come from files, databases and servers.
export const printable = (value) => String(value).replace(/(?![\n\t])[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu,
  (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

const shown = (value) => (typeof value === "string" ? printable(value) : value);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : shown(value));
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined).map(shown));
  return node;
}

export const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => fill(document.createElementNS(svgNS, name), attributes, children);

// text changes a node's text only where it differs, so that a selection survives.
export function text(node, value) {
  const now = printable(value);
  if (node.textContent !== now) node.textContent = now;
}

// keep makes the children of a parent those of a list, in its order. A child
// stays the same node as long as its key is in the list: a button keeps the focus.
export function keep(parent, list, keyOf, make, update) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of list) {
    const key = String(keyOf(item));
    let node = old.get(key);
    old.delete(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of old.values()) node.remove();
}

// facts writes a list of terms and values; a value may be a node.
export function facts(dl, list) {
  dl.replaceChildren(...list.flatMap(([term, value, wide]) =>
    [term === null ? null : el("dt", null, term), el("dd", { class: wide ? "wide" : null }, value)].filter(Boolean)));
}
