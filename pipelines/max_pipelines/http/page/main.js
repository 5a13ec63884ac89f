// The page: its tabs, and the key that all requests show.

import { openSpeech } from "./speech.js";
import { openServer } from "./server.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const server = openServer(ask);

function choose(chosen) {
  for (const tab of tabs) {
    const on = tab === chosen;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !on;
  }
  server.watch(chosen.id === "tab-server");
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    next.focus();
    choose(next);
  });
}

/** fetch, with the key if one was given. Throws an Error that says what the server said. */
export async function ask(path, options = {}) {
  const key = document.getElementById("key").value;
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) document.querySelector(".key").hidden = false;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error?.message ?? told.error ?? `the server answered ${answer.status}`);
}

openSpeech(ask);
