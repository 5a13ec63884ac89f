// Server-sent events out of a stream of bytes.

/** The data of each event when it is complete, as a string. */
export async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (begun + value).split("\n\n");
      begun = parts.pop();
      for (const part of parts) yield part.replace(/^data: ?/, "");
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
