/** Server-sent events of a response's body. */

export interface ServerEvent {
  /** The text of `data:` lines; empty for a comment. */
  data: string;
  /** The text of a comment, with which a waiting server reports its progress. */
  comment: string;
}

/** The events as they come. The browser's EventSource cannot send a body, nor show comments. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const frames = rest.split(/\r?\n\r?\n/);
      rest = done ? "" : (frames.pop() ?? "");
      for (const frame of frames) if (frame.trim()) yield parse(frame);
      if (done) return;
    }
  } finally {
    // Tells the server that nobody reads on.
    await reader.cancel().catch(() => undefined);
  }
}

function parse(frame: string): ServerEvent {
  const data: string[] = [];
  const comments: string[] = [];
  for (const line of frame.split(/\r?\n/)) {
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    else if (line.startsWith(":")) comments.push(line.slice(1).trim());
  }
  return { data: data.join("\n"), comment: comments.join(" ") };
}
