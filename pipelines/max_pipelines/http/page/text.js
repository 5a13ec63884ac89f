// The tab that writes: a conversation, its last answer shown while it is made.

import { Answers } from "./answer.js";
import { Turn } from "./turn.js";

const UNTEMPLATED = "This model has no chat template: it goes on with the text as it stands.";
const at = (id) => document.getElementById(id);

export function openText(ask) {
  const answers = new Answers(ask);
  let history = []; // messages, the question that is being answered not among them
  let served = ""; // the model
  let current = null; // what Stop ends

  at("talk").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!current) answer();
  });
  at("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    at("talk").requestSubmit();
  });
  at("chat").addEventListener("keydown", (event) => event.key === "Escape" && current?.abort());
  at("halt").addEventListener("click", () => current?.abort());
  at("clear").addEventListener("click", () => {
    current?.abort();
    current = null;
    history = [];
    at("turns").replaceChildren();
    forget();
    busy(false);
    at("question").focus();
  });

  async function answer() {
    const mine = (current = new AbortController());
    const question = { role: "user", content: at("question").value };
    const system = at("system").value.trim();
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...history, question];
    const asked = new Turn(at("turns"), "You");
    const turn = new Turn(at("turns"), served || "Model");
    asked.add(question);
    asked.paint();
    at("question").value = "";
    turn.growing = true;
    forget();
    busy(true);
    let news = "";
    try {
      news = await follow(turn, answers.of(served, messages, choices(), mine.signal));
    } catch (problem) {
      news = mine.signal.aborted ? "Stopped." : problem.message;
      if (turn.empty) [asked, turn].forEach(({ element }) => element.remove());
    }
    if (current !== mine) return; // it was cleared
    current = null;
    turn.growing = false;
    if (turn.element.isConnected) history.push(question, { role: "assistant", content: turn.content });
    else at("question").value ||= question.content; // nothing has come of it: try again
    at("written").textContent = news;
    at("hint").textContent = answers.chats ? "" : UNTEMPLATED;
    busy(false);
  }

  return {
    /** The model that answers. */
    serve(model) {
      served = model;
    },
  };
}

/** Put an answer into its turn while it comes; what there is to say about its end. */
async function follow(turn, pieces) {
  const begin = performance.now();
  let first = 0;
  let seen = 0; // pieces that had something in them: mostly a token each
  let ended = "";
  for await (const piece of pieces) {
    turn.add(piece);
    ended = piece.ending ?? ended;
    seen += Boolean(piece.content || piece.reasoning);
    if (!first && seen) {
      first = performance.now();
      at("first-token").textContent = `${Math.round(first - begin)} ms`;
    }
    if (seen || piece.tokens) show(piece.tokens, seen, performance.now() - first);
  }
  return ended === "length" ? "It was cut off: it had as many tokens as it may have." : "";
}

/** `tokens` as the server counts them; until it has told, about as many as there were pieces. */
function show(tokens, seen, milliseconds) {
  const about = tokens ? "" : "≈ ";
  const count = tokens ?? seen;
  at("tokens").textContent = `${about}${count}`;
  if (count > 1 && seen && milliseconds) at("pace").textContent = `${about}${(((count - 1) * 1000) / milliseconds).toFixed(1)} /s`;
}

/** The fields of the form. An empty one is not given. */
function choices() {
  const number = (id) => (at(id).value === "" ? undefined : Number(at(id).value));
  return { temperature: number("temperature"), most: number("most"), seed: number("text-seed") };
}

function forget() {
  for (const id of ["first-token", "pace", "tokens"]) at(id).textContent = "–";
  at("written").textContent = "";
}

/** The focus is never left on a button that can do nothing. */
function busy(on) {
  const [enabled, disabled] = on ? ["halt", "send"] : ["send", "halt"];
  at(enabled).disabled = false;
  if (document.activeElement === at(disabled)) at(on ? "halt" : "question").focus();
  at(disabled).disabled = true;
}
