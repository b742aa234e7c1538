/** What the page saw of the server over the last minutes, as rates. */
import type { Memory, Totals } from "../server/types";

export const MINUTES = 10;
export const INTERVAL_MS = 2000;
const MOST = (MINUTES * 60_000) / INTERVAL_MS;

/** One moment; null where nothing could be measured. */
export interface Sample {
  /** Seconds since the epoch. */
  at: number;
  tokensPerSecond: number | null;
  firstSeconds: number | null;
  cachedPercent: number | null;
  usedGib: number | null;
}

export interface Seen {
  at: number;
  totals: Totals;
}

/** The rates between two looks at the server's sums. */
export function sampleOf(before: Seen | null, now: Seen, memory: Memory | null): Sample {
  const used = memory ? (memory.total_bytes - memory.available_bytes) / 2 ** 30 : null;
  const nothing = {
    at: now.at,
    tokensPerSecond: null,
    firstSeconds: null,
    cachedPercent: null,
    usedGib: used,
  };
  // Smaller sums are those of a gateway that was started again.
  if (!before || now.totals.generations < before.totals.generations) return nothing;
  const grown = (name: keyof Totals) => now.totals[name] - before.totals[name];
  const elapsed = now.at - before.at;
  return {
    ...nothing,
    tokensPerSecond: elapsed > 0 ? grown("completion_tokens") / elapsed : null,
    firstSeconds: ratio(grown("first_token_seconds"), grown("first_tokens")),
    cachedPercent: ratio(100 * grown("cached_tokens"), grown("prompt_tokens")),
  };
}

export function withSample(history: readonly Sample[], sample: Sample, most = MOST): Sample[] {
  return [...history.slice(-(most - 1)), sample];
}

function ratio(part: number, whole: number): number | null {
  return whole > 0 ? part / whole : null;
}
