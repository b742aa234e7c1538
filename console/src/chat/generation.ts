/** One streamed answer. */
import { t } from "../i18n";
import { request } from "../server/client";
import { ApiError } from "../server/errors";
import { eventsOf } from "../server/events";
import { type Chunk, type Draft, take, told } from "./draft";
import type { Body } from "./request";

/**
 * Send `body` and report the answer as it grows.
 *
 * Throws an `ApiError` if the server refuses or breaks off, and an AbortError if `signal` ends it.
 */
export async function stream(
  body: Body,
  signal: AbortSignal,
  onDraft: (draft: Draft) => void,
): Promise<void> {
  const now = () => performance.now();
  const clock = { began: now(), first: 0, last: 0 };
  const sent = { ...body, stream: true, stream_options: { include_usage: true } };
  const reply = await request("/v1/chat/completions", { body: sent, signal });
  const draft: Draft = { text: "", reasoning: "", calls: [], progress: "", figures: told(reply.headers) };
  for await (const event of eventsOf(reply.body!)) {
    if (event.data === "[DONE]") return;
    if (event.data) take(draft, JSON.parse(event.data) as Chunk, clock, now);
    else draft.progress = event.comment === "keep-alive" ? "" : event.comment;
    onDraft(draft);
  }
  throw new ApiError(t("error.brokenOff"), 0);
}
