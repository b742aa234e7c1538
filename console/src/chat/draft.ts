/** A growing answer, put together from what the server says. */
import { toError } from "../server/errors";
import type { Call, Figures } from "./conversation";

const LEAST_SECONDS = 0.1;

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

export interface Chunk {
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

/** When the request was sent, and when its first and its latest text came, in milliseconds. */
export interface Clock {
  began: number;
  first: number;
  last: number;
}

/** Add a chunk. Throws an `ApiError` if it says that the answer broke off. */
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
    // The first token is where the clock starts; too short a time would tell nothing.
    if (seconds >= LEAST_SECONDS) figures.tokensPerSecond = (figures.tokens - 1) / seconds;
  }
}

function add(calls: Call[], piece: Piece): void {
  const call = (calls[piece.index] ??= { id: "", name: "", arguments: "" });
  call.id ||= piece.id ?? "";
  call.name ||= piece.function?.name ?? "";
  call.arguments += piece.function?.arguments ?? "";
}
