/** Downloads of models: what there is, what fits, and how far the one that runs has come. */
import { signal } from "@preact/signals";

import { json, request } from "../server/client";
import { type ApiError, toError } from "../server/errors";
import { eventsOf } from "../server/events";
import type { Fit, Plan, PullEvent } from "./pull-plan";

/** A look at what a hub has under a name. */
export const looked = signal<{ name: string; plan: Plan } | null>(null);
export const isLooking = signal(false);
/** The latest event of the download that runs; it goes on while another panel is shown. */
export const running = signal<PullEvent | null>(null);
export const finished = signal<PullEvent | null>(null);
export const pullFailed = signal<ApiError | null>(null);

let stopping = new AbortController();

export async function look(name: string): Promise<void> {
  begin();
  isLooking.value = true;
  try {
    // With `force` the table comes also if nothing fits.
    const body = { model: name, plan_only: true, force: true };
    const { plan } = await json<{ plan: Plan }>("/v1/models/pull", { body });
    looked.value = { name, plan };
  } catch (error) {
    pullFailed.value = error as ApiError;
  }
  isLooking.value = false;
}

/** Download a variant. The server keeps what has arrived if this is stopped, and goes on later. */
export async function pull(name: string, fit: Fit): Promise<void> {
  begin();
  stopping = new AbortController();
  running.value = { status: "resolving" };
  const body = { model: name, stream: true, force: fit.verdict === "does_not_fit" };
  try {
    const reply = await request("/v1/models/pull", { body, signal: stopping.signal });
    for await (const event of eventsOf(reply.body!)) {
      if (!event.data || event.data === "[DONE]") continue;
      const progress = JSON.parse(event.data) as PullEvent;
      if (progress.error) throw toError(progress, 0);
      running.value = progress;
    }
    finished.value = running.value;
    looked.value = null;
  } catch (error) {
    if (!stopping.signal.aborted) pullFailed.value = error as ApiError;
  }
  running.value = null;
}

export function stopPull(): void {
  stopping.abort();
}

function begin(): void {
  pullFailed.value = null;
  finished.value = null;
}
