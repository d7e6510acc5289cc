// The API key, where the service takes one: asked for when an answer says so, and kept in a cookie that no script reads.

import * as api from "./api.js";

const TOKEN = "#token="; // what `make serve` prints behind the page's address
const KEPT = "inversion-key-kept"; // that there is one, not which: the page offers to forget it
const $ = (id) => document.getElementById(id);

/** Use the token in the page's address, and take it out of there: it shall not stay in the history or be copied along. */
export async function useTokenOfAddress(refused) {
  if (!location.hash.startsWith(TOKEN)) return;
  const token = location.hash.slice(TOKEN.length);
  history.replaceState(null, "", location.pathname + location.search);
  try { await keep(token); } catch (problem) { refused(problem); }
}

async function keep(key) {
  await api.useKey(key);
  localStorage.setItem(KEPT, "yes");
}

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
    try { await keep($("key").value.trim()); } catch (problem) { refused(problem); return; }
    $("key-form").reset();
    $("key-form").hidden = true;
    $("forget-key").hidden = false;
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
