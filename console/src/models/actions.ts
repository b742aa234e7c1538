/** Loads and unloads models, and tells how it goes. */
import { signal } from "@preact/signals";

import { bytes, number, seconds, t } from "../i18n";
import { json, request } from "../server/client";
import { type ApiError, toError } from "../server/errors";
import { eventsOf } from "../server/events";

// How long a model stays after its pin was taken away.
const AFTER_PIN = "1h";

interface Progress {
  state?: string;
  fraction?: number;
  stage?: string;
  seconds?: number;
  error?: unknown;
}

/** By model: what is being done with it. */
export const doing = signal<Record<string, string>>({});
export const said = signal("");
export const failed = signal<ApiError | null>(null);

export function load(model: string): Promise<void> {
  return act(model, () => follow({ model, stream: true }));
}

export function pin(model: string): Promise<void> {
  return act(model, () => follow({ model, stream: true, keep_alive: -1 }));
}

export function unpin(model: string): Promise<void> {
  return act(model, () => follow({ model, stream: true, keep_alive: AFTER_PIN }));
}

export function unload(model: string): Promise<void> {
  return act(model, async () => {
    const reply = await json<{ freed_bytes: number }>("/v1/models/unload", { body: { model } });
    said.value = t("models.freed", { model, n: bytes(reply.freed_bytes) });
  });
}

export function remove(model: string): Promise<void> {
  return act(model, async () => {
    await request(`/v1/models/${encodeURIComponent(model)}`, { method: "DELETE" });
    said.value = t("models.deleted", { model });
  });
}

export function rescan(): Promise<void> {
  return act("", async () => void (await request("/v1/models/rescan", { body: {} })));
}

async function follow(body: { model: string; stream: true; keep_alive?: number | string }): Promise<void> {
  const reply = await request("/v1/models/load", { body });
  for await (const event of eventsOf(reply.body!)) {
    if (!event.data || event.data === "[DONE]") continue;
    const progress = JSON.parse(event.data) as Progress;
    if (progress.error) throw toError(progress, 0);
    if (progress.state === "ready") {
      said.value = t("models.loaded", { model: body.model, n: seconds(progress.seconds ?? 0) });
    } else {
      const percent = `${number((progress.fraction ?? 0) * 100)} %`;
      note(body.model, t("models.loadingAt", { stage: progress.stage ?? "", percent }));
    }
  }
}

async function act(model: string, action: () => Promise<void>): Promise<void> {
  failed.value = null;
  said.value = "";
  note(model, t("loading"));
  try {
    await action();
  } catch (error) {
    failed.value = error as ApiError;
  } finally {
    const { [model]: _, ...others } = doing.value;
    doing.value = others;
  }
}

function note(model: string, text: string): void {
  doing.value = { ...doing.value, [model]: text };
}
