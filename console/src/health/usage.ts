/** Keys' limits and use, in the form that a table shows. */
import type { Key, Limits, Used } from "../server/types";

type LimitName = keyof Limits;
const LIMIT_NAMES: LimitName[] = [
  "requests_per_minute",
  "tokens_per_minute",
  "tokens_per_day",
  "tokens_per_month",
];

/** The limits that a key has, by the kind of work. */
export function limitsOf(key: Key): ["chat" | "embeddings", LimitName, number][] {
  return (["chat", "embeddings"] as const).flatMap((kind) =>
    LIMIT_NAMES.flatMap((name) => {
      const most = key[kind][name];
      return most ? [[kind, name, most] as ["chat" | "embeddings", LimitName, number]] : [];
    }),
  );
}

export type Sum = Omit<Used, "date" | "kind">;

/** What each key has used of each model on all days, most tokens first. */
export function sumsOf(rows: Used[]): Sum[] {
  const sums = new Map<string, Sum>();
  for (const { key, alias, model, requests, prompt_tokens, completion_tokens } of rows) {
    const name = JSON.stringify([key, model]);
    const sum = sums.get(name) ?? { key, alias, model, requests: 0, prompt_tokens: 0, completion_tokens: 0 };
    sum.requests += requests;
    sum.prompt_tokens += prompt_tokens;
    sum.completion_tokens += completion_tokens;
    sums.set(name, sum);
  }
  const total = (sum: Sum) => sum.prompt_tokens + sum.completion_tokens;
  return [...sums.values()].sort((a, b) => total(b) - total(a));
}
