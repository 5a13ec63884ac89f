// An answer while it is made: a chat, or of a model that knows no chats, a text that goes on.

import { eventsOf } from "./events.js";

const BROKEN = "The answer broke off before its end.";

export class Answers {
  /** @param ask fetch that throws for a status that is an error */
  constructor(ask) {
    this.ask = ask;
    this.chats = true; // until the server says that the model has no template
  }

  /**
   * Pieces { content, reasoning, tokens, ending, whole }, each of which may be missing: more of the text or of what the
   * model thinks; how many tokens there are by now, where that is known; why it ends; all of the text, at the end.
   * Throws an Error that says what the server said, also for an answer that comes to no end.
   */
  async *of(model, messages, { temperature, most, seed }, signal) {
    if (this.chats) {
      const fields = { model, messages, temperature, max_tokens: most, seed };
      try {
        yield* this.chat(fields, signal);
        return;
      } catch (problem) {
        if (problem.status !== 422 || !problem.message.includes("no chat template")) throw problem;
        this.chats = false;
      }
    }
    const drawn = temperature === 0 ? { do_sample: false } : { do_sample: true, temperature, seed };
    const parameters = { ...drawn, max_new_tokens: most, details: true };
    yield* this.goOn({ inputs: messages.map(({ content }) => content).join("\n"), parameters }, signal);
  }

  async *chat(fields, signal) {
    const body = { ...fields, stream: true, stream_options: { include_usage: true } };
    for await (const event of this.events("v1/chat/completions", body, signal)) {
      if (event === "[DONE]") return;
      const { choices, usage } = said(event);
      const { delta, finish_reason: ending } = choices[0] ?? {};
      const { content, reasoning_content: reasoning } = delta ?? {};
      yield { content: content ?? "", reasoning: reasoning ?? "", tokens: usage?.completion_tokens, ending };
    }
    throw new Error(BROKEN);
  }

  async *goOn(body, signal) {
    for await (const event of this.events("generate_stream", body, signal)) {
      const { index: tokens, token, generated_text: whole, details } = said(event);
      yield { content: token.special ? "" : token.text, tokens, ending: details?.finish_reason, whole };
      if (typeof whole === "string") return;
    }
    throw new Error(BROKEN);
  }

  async *events(path, body, signal) {
    const headers = { "content-type": "application/json" };
    const answer = await this.ask(path, { method: "POST", headers, body: JSON.stringify(body), signal });
    yield* eventsOf(answer.body);
  }
}

function said(event) {
  const content = JSON.parse(event);
  if (content.error) throw new Error(content.error.message ?? content.error);
  return content;
}
