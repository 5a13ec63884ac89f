// The page: its tabs, what is served in which of them, and the key that all requests show.

import { openSpeech } from "./speech.js";
import { openServer } from "./server.js";
import { openText } from "./text.js";

const AGAIN_MS = 2000; // until a server that is still loading is asked again
const tabs = [...document.querySelectorAll("[role=tab]")];
const server = openServer(ask);
const served = [
  { tab: tabs[0], task: "audio_generation", part: openSpeech(ask) },
  { tab: tabs[1], task: "text_generation", part: openText(ask) },
];
const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
let chosen = false; // by somebody, so that it stays

function open(opened) {
  for (const tab of tabs) {
    const on = tab === opened;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    panelOf(tab).hidden = !on;
  }
  server.watch(opened.id === "tab-server");
}

function choose(tab) {
  chosen = true;
  open(tab);
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

/** fetch, with the key if one was given. Throws an Error that says what the server said, with its status. */
export async function ask(path, options = {}) {
  const key = document.getElementById("key").value;
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) document.querySelector(".key").hidden = false;
  const told = await answer.json().catch(() => ({}));
  const text = told.error?.message ?? told.error ?? `the server answered ${answer.status}`;
  throw Object.assign(new Error(text), { status: answer.status });
}

/** What is served opens its tab, unless somebody has chosen another; a tab of nothing that is served says so. */
async function look() {
  const news = document.getElementById("news");
  try {
    const { data } = await (await ask("v1/models")).json();
    for (const { tab, task, part } of served) {
      const model = data.find((model) => model.task === task);
      panelOf(tab).querySelector(".work").hidden = !model;
      panelOf(tab).querySelector(".absent").hidden = Boolean(model);
      if (model) part.serve(model.id);
    }
    const first = served.find(({ task }) => data.some((model) => model.task === task));
    if (!chosen) open(first?.tab ?? tabs.at(-1));
    news.textContent = "";
  } catch (problem) {
    news.textContent = problem.message;
    if (problem.status === 503) setTimeout(look, AGAIN_MS);
  }
}

document.getElementById("key").addEventListener("change", look);
look();
