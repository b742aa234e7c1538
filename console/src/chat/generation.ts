/** One streamed answer: what the server says, put together. */
import { request, toError } from "../server/client";
import { eventsOf } from "../server/events";
import type { Call, Figures } from "./conversation";
import type { Body } from "./request";

export interface Draft {
  text: string;
  reasoning: string;
  calls: Call[];
  figures: Figures;
  /** What the server says of a load or a queue while nothing has come yet. */
  progress: string;
}

interface Piece {
  index: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

interface Chunk {
  model?: string;
  reduced?: string[];
  error?: unknown;
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens?: number };
  } | null;
  choices?: {
    delta?: { content?: string; reasoning_content?: string; tool_calls?: Piece[] };
    finish_reason?: string | null;
  }[];
}

/**
 * Send `body` and report the answer as it grows.
 *
 * Throws an `ApiError` if the server refuses or breaks off, and an AbortError if `signal` ends it.
 */
export async function stream(
  body: Body,
  signal: AbortSignal,
  onDraft: (draft: Draft) => void,
  now: () => number = () => performance.now(),
): Promise<void> {
  const began = now();
  const sent = { ...body, stream: true, stream_options: { include_usage: true } };
  const reply = await request("/v1/chat/completions", { body: sent, signal });
  const draft: Draft = { text: "", reasoning: "", calls: [], progress: "", figures: told(reply.headers) };
  const clock = { began, first: 0, last: 0 };
  for await (const event of eventsOf(reply.body!)) {
    if (event.data === "[DONE]") return;
    if (event.data) take(draft, JSON.parse(event.data) as Chunk, clock, now);
    else draft.progress = event.comment === "keep-alive" ? "" : event.comment;
    onDraft(draft);
  }
}

/** What the headers say about the request. */
export function told(headers: Headers): Figures {
  const figures: Figures = {};
  const trimmed = Number(headers.get("x-trimmed-tokens") ?? 0);
  if (trimmed) figures.trimmedTokens = trimmed;
  const reduced = headers.get("x-y26hkx-reduced");
  if (reduced) figures.reduced = reduced.split("; ");
  const ignored = headers.get("x-ignored-parameters");
  if (ignored) figures.ignored = ignored;
  return figures;
}

interface Clock {
  began: number;
  first: number;
  last: number;
}

export function take(draft: Draft, chunk: Chunk, clock: Clock, now: () => number): void {
  if (chunk.error) throw toError(chunk, 0);
  const figures = draft.figures;
  if (chunk.model) figures.model = chunk.model;
  if (chunk.reduced?.length) figures.reduced = chunk.reduced;
  const choice = chunk.choices?.[0];
  const delta = choice?.delta ?? {};
  if (delta.content || delta.reasoning_content || delta.tool_calls) {
    draft.progress = "";
    clock.last = now();
    clock.first ||= clock.last;
    figures.firstSeconds = (clock.first - clock.began) / 1000;
  }
  draft.text += delta.content ?? "";
  draft.reasoning += delta.reasoning_content ?? "";
  for (const piece of delta.tool_calls ?? []) add(draft.calls, piece);
  if (choice?.finish_reason) figures.end = choice.finish_reason;
  if (chunk.usage) {
    figures.promptTokens = chunk.usage.prompt_tokens;
    figures.cachedTokens = chunk.usage.prompt_tokens_details?.cached_tokens ?? 0;
    figures.tokens = chunk.usage.completion_tokens;
    const seconds = (clock.last - clock.first) / 1000;
    // The first token is where the clock starts.
    if (seconds > 0) figures.tokensPerSecond = (figures.tokens - 1) / seconds;
  }
}

function add(calls: Call[], piece: Piece): void {
  const call = (calls[piece.index] ??= { id: "", name: "", arguments: "" });
  call.id ||= piece.id ?? "";
  call.name ||= piece.function?.name ?? "";
  call.arguments += piece.function?.arguments ?? "";
}
