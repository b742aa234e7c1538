import { describe, expect, test } from "vitest";

import { linesOf, matrixOf, neighboursOf } from "../../src/embeddings/similarity";
import { limitsOf, sumsOf } from "../../src/health/usage";
import { sampleOf, withSample } from "../../src/live/history";
import { freeBytes, partsOf, planFor, segmentsOf } from "../../src/models/memory";
import { nameOf, type Plan, secondsLeft } from "../../src/models/pull-plan";
import type { Memory, Model, Totals } from "../../src/server/types";

const GIB = 2 ** 30;

function memory(more: Partial<Memory> = {}): Memory {
  return {
    total_bytes: 8 * GIB,
    available_bytes: 4 * GIB,
    headroom_bytes: GIB,
    booked_bytes: 0,
    gateway_bytes: GIB / 8,
    workers_bytes: GIB / 8,
    engines_bytes: 0,
    pressure: "none",
    processes: [],
    ...more,
  };
}

function model(id: string, gib: number, more: Partial<Model> = {}): Model {
  return { id, capability: "chat", state: "ready", resident_bytes: gib * GIB, idle_seconds: 1, ...more };
}

describe("the memory bar", () => {
  test("adds up to the whole machine", () => {
    const found = segmentsOf(memory(), [model("a", 1), model("b", 0.5), model("c", 0)]);
    expect(found.map(({ kind, model: id }) => id ?? kind)).toEqual([
      ...["others", "server", "a", "b", "headroom", "free"],
    ]);
    expect(found.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(8 * GIB);
  });

  test("has no negative piece where files are mapped or nothing is free", () => {
    const found = segmentsOf(memory({ available_bytes: GIB / 2 }), [model("mapped", 9)]);
    expect(found.every(({ bytes }) => bytes > 0)).toBe(true);
    expect(found.map(({ kind }) => kind)).toEqual(["server", "model", "headroom"]);
  });

  test("divides a model by parts that add up to what it holds", () => {
    const parts = { weights_bytes: 2 * GIB, kv_bytes: GIB, compute_bytes: GIB };
    const whole = partsOf(model("a", 5, { memory: parts }));
    expect(whole).toEqual({ weights: 2 * GIB, kv: GIB, compute: GIB, caches: 0, rest: GIB });
    const untouched = partsOf(model("a", 2, { memory: parts }));
    expect(untouched).toMatchObject({ weights: GIB, kv: GIB / 2, rest: 0 });
  });
});

describe("the plan for a load", () => {
  const wanted = (gib: number) =>
    model("new", 0, { state: "unloaded", memory: { estimated_bytes: gib * GIB } });

  test("needs nothing to go where the model fits", () => {
    const plan = planFor(wanted(3), memory(), [model("a", 1)]);
    expect(plan).toMatchObject({ verdict: "now", goes: [], free: 3 * GIB });
  });

  test("lets the longest idle go first, those in use last, and pinned ones never", () => {
    const models = [
      model("busy", 1, { n_leases: 2, idle_seconds: null }),
      model("fresh", 1, { idle_seconds: 5 }),
      model("old", 1, { idle_seconds: 900 }),
      model("pinned", 2, { pinned: true, idle_seconds: 9999 }),
    ];
    const order = planFor(wanted(6), memory(), models);
    expect(order.goes.map(({ id }) => id)).toEqual(["old", "fresh", "busy"]);
    expect(order.verdict).toBe("after");
    expect(planFor(wanted(4), memory(), models).goes.map(({ id }) => id)).toEqual(["old"]);
    const never = planFor(wanted(7), memory(), models);
    expect(never).toMatchObject({ verdict: "not", mostFree: 6 * GIB });
    expect(never.pinned.map(({ id }) => id)).toEqual(["pinned"]);
  });

  test("takes what is promised and not used yet as taken", () => {
    const loading = model("a", 1, { memory: { booked_bytes: 2 * GIB } });
    expect(freeBytes(memory(), [loading])).toBe(2 * GIB);
  });

  test("says that a model without an estimate needs at least its file", () => {
    const plan = planFor({ ...wanted(0), size_bytes: GIB }, memory(), []);
    expect(plan).toMatchObject({ isAtLeast: true, needed: GIB });
  });
});

describe("a download", () => {
  const plan = (...variants: string[]) => ({ fits: variants.map((variant) => ({ variant })) }) as Plan;

  test("is of the variant that was chosen, whichever the name said before", () => {
    const both = plan("Q4_K_M", "Q8_0");
    expect(nameOf("hf.co/org/repo", both, "Q8_0")).toBe("hf.co/org/repo:Q8_0");
    expect(nameOf("hf.co/org/repo:Q4_K_M", both, "Q8_0")).toBe("hf.co/org/repo:Q8_0");
    expect(nameOf("https://host:8443/a.gguf", plan("Q8_0"), "Q8_0")).toBe("https://host:8443/a.gguf");
    expect(nameOf("ollama.com/library/a:1b", plan("1b"), "1b")).toBe("ollama.com/library/a:1b");
  });

  test("tells how long it takes only where the server knows its rate", () => {
    const event = { status: "downloading" as const, completed_bytes: 40, total_bytes: 100 };
    expect(secondsLeft({ ...event, bytes_per_s: 20 })).toBe(3);
    expect(secondsLeft({ ...event, bytes_per_s: 0 })).toBeNull();
  });
});

describe("the live figures", () => {
  const totals = (more: Partial<Totals>): Totals => ({
    generations: 1,
    prompt_tokens: 0,
    cached_tokens: 0,
    completion_tokens: 0,
    first_tokens: 0,
    first_token_seconds: 0,
    ...more,
  });

  test("are rates between two looks", () => {
    const before = {
      at: 10,
      totals: totals({ completion_tokens: 100, first_tokens: 1, first_token_seconds: 1 }),
    };
    const later = totals({
      completion_tokens: 140,
      prompt_tokens: 200,
      cached_tokens: 50,
      first_tokens: 3,
      first_token_seconds: 2,
    });
    expect(sampleOf(before, { at: 12, totals: later }, memory())).toEqual({
      at: 12,
      tokensPerSecond: 20,
      firstSeconds: 0.5,
      cachedPercent: 25,
      usedGib: 4,
    });
  });

  test("are unknown at first, and after the gateway started again", () => {
    const nothing = { tokensPerSecond: null, firstSeconds: null, cachedPercent: null };
    expect(sampleOf(null, { at: 1, totals: totals({}) }, null)).toMatchObject(nothing);
    const before = { at: 0, totals: totals({ generations: 9 }) };
    expect(sampleOf(before, { at: 1, totals: totals({}) }, null)).toMatchObject(nothing);
  });

  test("are kept for a bounded time", () => {
    const sample = sampleOf(null, { at: 1, totals: totals({}) }, null);
    let history = withSample([], sample, 3);
    for (const at of [2, 3, 4]) history = withSample(history, { ...sample, at }, 3);
    expect(history.map(({ at }) => at)).toEqual([2, 3, 4]);
  });
});

describe("similarities", () => {
  test("are cosines, and the nearest is never the text itself", () => {
    const matrix = matrixOf([
      [1, 0],
      [2, 0],
      [0, 3],
      [0, 0],
    ]);
    expect(matrix[0]).toEqual([1, 1, 0, 0]);
    expect(neighboursOf(matrix)[0]).toEqual({ place: 1, similarity: 1 });
    expect(neighboursOf([[1]])).toEqual([null]);
  });

  test("are of lines that say something", () => {
    expect(linesOf(" a \n\n b")).toEqual(["a", "b"]);
  });
});

describe("what keys have used", () => {
  const day = { date: "2026-01-01", kind: "chat", requests: 1, prompt_tokens: 5, completion_tokens: 2 };

  test("is added up by key and model, most first", () => {
    const rows = [
      { ...day, key: "a", alias: "", model: "m" },
      { ...day, key: "b", alias: "bob", model: "m", prompt_tokens: 100 },
      { ...day, key: "a", alias: "", model: "m", date: "2026-01-02" },
    ];
    const sums = sumsOf(rows);
    expect(sums.map(({ key, requests, prompt_tokens }) => [key, requests, prompt_tokens])).toEqual([
      ["b", 1, 100],
      ["a", 2, 10],
    ]);
  });

  test("is limited by what a key's record names", () => {
    const limits = { chat: { tokens_per_day: 9 }, embeddings: { requests_per_minute: 3 } };
    expect(limitsOf({ id: "a", alias: "", admin: false, models: null, ...limits })).toEqual([
      ["chat", "tokens_per_day", 9],
      ["embeddings", "requests_per_minute", 3],
    ]);
  });
});
