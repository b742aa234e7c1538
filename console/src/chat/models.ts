/** The chat models that can be chosen. */
import { computed, signal } from "@preact/signals";

import { json } from "../server/client";
import { ApiError } from "../server/errors";
import type { Model } from "../server/types";

const listed = signal<Model[]>([]);

export const chatModels = computed(() => listed.value.filter((model) => model.capability === "chat"));
/** The id of the model that answers if none is named. */
export const defaultModel = computed(() => chatModels.value.find((model) => model.is_default)?.id ?? "");

export async function refreshModels(): Promise<void> {
  try {
    listed.value = (await json<{ data: Model[] }>("/v1/models")).data;
  } catch (error) {
    // The list stays as it was; a request that follows will say what is wrong.
    if (!(error instanceof ApiError)) throw error;
  }
}
