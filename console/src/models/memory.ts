/** How the machine's memory is divided, and what must go so that one more model fits. */
import type { Memory, Model } from "../server/types";

export const PARTS = ["weights", "kv", "compute", "caches", "rest"] as const;
export type Part = (typeof PARTS)[number];

export interface Segment {
  kind: "others" | "server" | "model" | "headroom" | "free";
  bytes: number;
  /** Of a model: its id, and its memory by parts. */
  model?: string;
  parts?: Record<Part, number>;
}

/** The machine's memory from end to end; empty segments are left out. */
export function segmentsOf(memory: Memory, models: readonly Model[]): Segment[] {
  const loaded = models.filter((model) => (model.resident_bytes ?? 0) > 0);
  const server = memory.gateway_bytes + memory.workers_bytes;
  const ours = server + sum(loaded.map((model) => model.resident_bytes ?? 0));
  const headroom = Math.min(memory.headroom_bytes, memory.available_bytes);
  const found: Segment[] = [
    // Pages of mapped files count as available, so the sum of ours may be more than is used.
    { kind: "others", bytes: Math.max(0, memory.total_bytes - memory.available_bytes - ours) },
    { kind: "server", bytes: server },
    ...loaded.map((model): Segment => {
      const bytes = model.resident_bytes ?? 0;
      return { kind: "model", bytes, model: model.id, parts: partsOf(model) };
    }),
    { kind: "headroom", bytes: headroom },
    { kind: "free", bytes: memory.available_bytes - headroom },
  ];
  return found.filter((segment) => segment.bytes > 0);
}

/** What a model's process holds, by parts that add up to it. */
export function partsOf(model: Model): Record<Part, number> {
  const resident = model.resident_bytes ?? 0;
  const { weights_bytes = 0, kv_bytes = 0, compute_bytes = 0, caches_bytes = 0 } = model.memory ?? {};
  const planned = weights_bytes + kv_bytes + compute_bytes + caches_bytes;
  // A part that is not used yet is not resident: all are shown smaller then.
  const scale = planned > resident ? resident / planned : 1;
  return {
    weights: weights_bytes * scale,
    kv: kv_bytes * scale,
    compute: compute_bytes * scale,
    caches: caches_bytes * scale,
    rest: resident - planned * scale,
  };
}

/** Bytes that a load may take now: what is reserved and not used yet is not free. */
export function freeBytes(memory: Memory, models: readonly Model[]): number {
  const promised = models.map((model) =>
    Math.max(0, (model.memory?.booked_bytes ?? 0) - (model.resident_bytes ?? 0)),
  );
  return Math.max(0, memory.available_bytes - memory.headroom_bytes - sum(promised));
}

export interface Plan {
  needed: number;
  /** `needed` is the size of the weights only: the server has not estimated the model yet. */
  isAtLeast: boolean;
  free: number;
  verdict: "now" | "after" | "not";
  /** In the order in which the server unloads them, as far as is needed. */
  goes: Model[];
  /** What would be free if everything unpinned went. */
  mostFree: number;
  pinned: Model[];
}

/** What must go so that `wanted` fits, by the server's own rules (docs/memory.md). */
export function planFor(wanted: Model, memory: Memory, models: readonly Model[]): Plan {
  const estimated = wanted.memory?.estimated_bytes ?? 0;
  const needed = estimated || (wanted.size_bytes ?? 0);
  const free = freeBytes(memory, models);
  const loaded = models.filter((model) => model.state === "ready" && model.id !== wanted.id);
  const leaves = loaded.filter((model) => !model.pinned).sort(byTurn);
  const goes: Model[] = [];
  let freed = free;
  for (const model of leaves) {
    if (freed >= needed) break;
    goes.push(model);
    freed += frees(model);
  }
  const verdict = free >= needed ? "now" : freed >= needed ? "after" : "not";
  const mostFree = free + sum(leaves.map(frees));
  const pinned = loaded.filter((model) => model.pinned);
  return { needed, isAtLeast: !estimated, free, verdict, goes, mostFree, pinned };
}

export function frees(model: Model): number {
  return Math.max(model.resident_bytes ?? 0, model.memory?.booked_bytes ?? 0);
}

/** Idle models first, those that are idle for longest; then those in use. */
function byTurn(one: Model, other: Model): number {
  const busy = Number(isBusy(one)) - Number(isBusy(other));
  return busy || (other.idle_seconds ?? 0) - (one.idle_seconds ?? 0);
}

export function isBusy(model: Model): boolean {
  return (model.n_leases ?? 0) > 0;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
