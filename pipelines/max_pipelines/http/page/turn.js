// What one of the two has said, as it stands on the page. It is text, and nothing in it is ever read as HTML.

function make(name, fields = {}, ...children) {
  const element = Object.assign(document.createElement(name), fields);
  element.append(...children);
  return element;
}

export class Turn {
  /** @param {HTMLElement} list where it is put, behind the others */
  constructor(list, speaker) {
    this.list = list;
    this.content = "";
    this.reasoning = "";
    this.painting = 0; // the frame in which it will be
    this.words = new Text();
    this.thoughts = new Text();
    this.thinking = make("details", { hidden: true, open: true }, make("summary", { textContent: "Reasoning" }));
    this.thinking.append(make("p", {}, this.thoughts));
    this.head = make("h2", { textContent: speaker });
    this.element = make("article", {}, this.head, this.thinking, make("p", {}, this.words));
    list.append(this.element);
    list.scrollTop = list.scrollHeight;
  }

  get empty() {
    return !this.content && !this.reasoning;
  }

  /** More of it. It is shown with the next frame: a server may be faster than a page is laid out. */
  add({ content = "", reasoning = "", whole }) {
    this.content = typeof whole === "string" ? whole : this.content + content;
    this.reasoning += reasoning;
    this.painting ||= requestAnimationFrame(() => this.paint());
  }

  /** Show all of it, now. Who reads further up stays there. */
  paint() {
    cancelAnimationFrame(this.painting);
    this.painting = 0;
    const { scrollTop, scrollHeight, clientHeight } = this.list;
    if (this.reasoning) this.thinking.hidden = false;
    if (this.content && !this.words.length) this.thinking.open = false;
    grow(this.thoughts, this.reasoning);
    grow(this.words, this.content);
    if (scrollTop + clientHeight > scrollHeight - 8) this.list.scrollTop = this.list.scrollHeight;
  }

  /** While it grows, nobody has it read aloud piece by piece. */
  set growing(on) {
    this.element.setAttribute("aria-busy", String(on));
    if (on) return;
    this.paint();
    this.head.append(this.copier());
  }

  copier() {
    const button = make("button", { type: "button", textContent: "Copy", className: "copy" });
    button.setAttribute("aria-label", "Copy this answer");
    button.addEventListener("click", async () => {
      button.textContent = (await copied(this.content, this.words.parentNode)) ? "Copied" : "Not copied";
    });
    return button;
  }
}

/** Only what is new is put in, so that what somebody has marked stays marked. */
function grow(node, text) {
  if (text.startsWith(node.data)) node.appendData(text.slice(node.length));
  else node.data = text;
}

/** Whether a text is in the clipboard now. Pages that came without TLS, and from elsewhere, have the old way only. */
async function copied(text, shown) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  getSelection().selectAllChildren(shown);
  return document.execCommand("copy");
}
