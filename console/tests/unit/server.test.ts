import { describe, expect, test } from "vitest";

import { type Draft, take, told } from "../../src/chat/draft";
import { eventsOf } from "../../src/server/events";

async function read(...chunks: string[]) {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(encoder.encode(chunk));
      controller.close();
    },
  });
  const found = [];
  for await (const event of eventsOf(body)) found.push(event);
  return found;
}

describe("the events of a stream", () => {
  test("are the same however the bytes are cut", async () => {
    const text = ': queued, position 2\n\ndata: {"a":"台北"}\n\ndata: [DONE]\n\n';
    const whole = await read(text);
    expect(whole.map(({ data, comment }) => data || comment)).toEqual([
      "queued, position 2",
      '{"a":"台北"}',
      "[DONE]",
    ]);
    expect(await read(...text)).toEqual(whole);
    expect(await read(text.replaceAll("\n", "\r\n"))).toEqual(whole);
  });

  test("include one that no empty line ends", async () => {
    expect((await read("data: x")).map(({ data }) => data)).toEqual(["x"]);
  });
});

describe("an answer", () => {
  function draft(): Draft {
    return { text: "", reasoning: "", calls: [], progress: "loading", figures: {} };
  }

  test("is put together with its times and counts", () => {
    const found = draft();
    const clock = { began: 1000, first: 0, last: 0 };
    let now = 1500;
    const step = (chunk: Parameters<typeof take>[1]) => take(found, chunk, clock, () => now);
    step({ choices: [{ delta: { content: "" } }], model: "m" });
    expect(found.progress).toBe("loading");
    step({ choices: [{ delta: { reasoning_content: "hm" } }] });
    now = 2500;
    step({ choices: [{ delta: { content: "yes" } }] });
    step({ choices: [{ delta: {}, finish_reason: "stop" }] });
    step({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 11 } });
    expect(found).toMatchObject({ text: "yes", reasoning: "hm", progress: "" });
    expect(found.figures).toEqual({
      model: "m",
      firstSeconds: 0.5,
      end: "stop",
      promptTokens: 7,
      cachedTokens: 0,
      tokens: 11,
      tokensPerSecond: 10,
    });
  });

  test("has the pieces of a call in one", () => {
    const found = draft();
    const clock = { began: 0, first: 0, last: 0 };
    const pieces = [
      { index: 0, id: "c", function: { name: "f", arguments: "" } },
      { index: 0, function: { arguments: '{"a"' } },
      { index: 0, function: { arguments: ":1}" } },
    ];
    for (const piece of pieces) {
      take(found, { choices: [{ delta: { tool_calls: [piece] } }] }, clock, () => 1);
    }
    expect(found.calls).toEqual([{ id: "c", name: "f", arguments: '{"a":1}' }]);
  });

  test("that breaks off is an error with what helps", () => {
    const broken = {
      error: { message: "it died", code: "worker_lost", request_id: "r", suggestions: ["wait"] },
    };
    expect(() => take(draft(), broken, { began: 0, first: 0, last: 0 }, () => 0)).toThrow(
      expect.objectContaining({
        message: "it died",
        code: "worker_lost",
        requestId: "r",
        suggestions: ["wait"],
      }),
    );
  });

  test("tells what was trimmed, reduced and ignored", () => {
    const headers = new Headers({
      "x-trimmed-tokens": "12",
      "x-y26hkx-reduced": "KV cache in q8_0; context of 1,024 tokens",
      "x-ignored-parameters": "user",
    });
    expect(told(headers)).toEqual({
      trimmedTokens: 12,
      reduced: ["KV cache in q8_0", "context of 1,024 tokens"],
      ignored: "user",
    });
    expect(told(new Headers())).toEqual({});
  });
});
