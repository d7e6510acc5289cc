// The API key, where the service takes one: asked for when an answer says so, and kept in a cookie that no script reads.

import * as api from "./api.js";

const KEPT = "inversion-key-kept"; // that there is one, not which: the page offers to forget it
const $ = (id) => document.getElementById(id);

/** `again()` is called once a key is in use, or is forgotten; `refused(problem)` when it does not open the door. */
export function askForKey({ again, refused }) {
  $("forget-key").hidden = !localStorage.getItem(KEPT);
  document.addEventListener("key-needed", () => {
    if (!$("key-form").hidden) return;
    $("key-form").hidden = false;
    $("forget-key").hidden = true;
    $("key").focus();
  });
  $("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try { await api.useKey($("key").value.trim()); } catch (problem) { refused(problem); return; }
    $("key-form").reset();
    $("key-form").hidden = true;
    $("forget-key").hidden = false;
    localStorage.setItem(KEPT, "yes");
    $("problem").hidden = true;
    again();
  });
  $("forget-key").addEventListener("click", async () => {
    try { await api.forgetKey(); } catch (problem) { refused(problem); return; }
    localStorage.removeItem(KEPT);
    $("forget-key").hidden = true;
    again();
  });
}
