// The tab that shows how the server is, while it is looked at.

import { drawLine } from "./drawing.js";

const LOOK_MS = 1000;
const KEPT = 120;
const at = (id) => document.getElementById(id);

export function openServer(ask) {
  const load = [];
  let timer = 0;

  async function look() {
    try {
      const { gauges, workers } = await (await ask("status")).json();
      for (const name of ["requests", "waiting", "refused", "resumed"]) at(name).textContent = gauges[name] ?? 0;
      at("workers").replaceChildren(...workers.map(row));
      load.push(gauges.requests ?? 0);
      if (load.length > KEPT) load.shift();
      drawLine(at("load"), load, KEPT);
      at("trouble").textContent = "";
    } catch (problem) {
      at("trouble").textContent = problem.message;
    }
  }

  function row({ name, ready, standby, running = 0, credits = 0, steps = 0 }) {
    const state = !ready ? "loading" : standby ? "stands by" : "works";
    const line = document.createElement("tr");
    for (const text of [name, state, `${running} of ${credits}`, steps]) {
      line.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    return line;
  }

  return {
    /** Look each second, or not at all. */
    watch(on) {
      clearInterval(timer);
      if (!on) return;
      look();
      timer = setInterval(look, LOOK_MS);
    },
  };
}
