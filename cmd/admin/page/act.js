// What changes something: with the token, and what came of it at the top.
import { byId, el, printable } from "./dom.js";

const tokenKey = "walpurge-token";

export function flash(message, kind) {
  const box = byId("flash");
  box.dataset.kind = kind;
  box.textContent = printable(message);
  box.hidden = message === "";
}

// post sends JSON, or a text as it is, and returns the answer; a refusal is an
// Error with the daemon's own words.
export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const token = byId("token").value;
  if (token !== "") headers.Authorization = "Bearer " + token;
  const response = await fetch(path, { method: "POST", headers, body: typeof body === "string" ? body : JSON.stringify(body) });
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) byId("token-box").open = true;
  if (!response.ok) throw new Error(answer.error ?? "HTTP " + response.status);
  return answer;
}

// button does something when pressed, once at a time. One that cannot be taken
// back asks to be pressed again first.
export function button(label, act, sure) {
  const node = el("button", { type: "button" }, label);
  let armed = 0;
  const disarm = () => {
    clearTimeout(armed);
    armed = 0;
    node.className = "";
    node.textContent = label;
  };
  node.addEventListener("blur", () => armed && disarm());
  node.addEventListener("click", async () => {
    if (sure && !armed) {
      node.className = "sure";
      node.textContent = sure;
      armed = setTimeout(disarm, 6000);
      return;
    }
    disarm();
    // Not disabled, which would lose the focus.
    if (node.getAttribute("aria-busy") === "true") return;
    node.setAttribute("aria-busy", "true");
    try {
      flash(await act(), "done");
    } catch (err) {
      flash(err.message, "failed");
    } finally {
      node.removeAttribute("aria-busy");
    }
  });
  return node;
}

// rememberToken keeps the token for as long as the tab lives, and no longer.
export function rememberToken() {
  const input = byId("token");
  input.value = sessionStorage.getItem(tokenKey) ?? "";
  input.addEventListener("input", () => {
    if (input.value === "") sessionStorage.removeItem(tokenKey);
    else sessionStorage.setItem(tokenKey, input.value);
  });
}
