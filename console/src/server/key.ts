/** The API key: asked for once, kept for this tab, sent in a header only. */
import { signal } from "@preact/signals";

import { keep, kept } from "../shell/browser-store";

const session = () => sessionStorage;
const isKey = (value: string): value is string => value.length > 0;

export const key = signal(kept("key", isKey, session) ?? "");
/** Whether the reader is asked for a key, and whether one was refused. */
export const asking = signal<"no" | "first" | "again">("no");

let answered: ((given: boolean) => void)[] = [];

/** Ask the reader for a key; all who ask meanwhile get the same answer. */
export function askForKey(refused: string): Promise<boolean> {
  // Another call may have got a new key while this one was under way.
  if (key.value !== refused) return Promise.resolve(true);
  asking.value = refused ? "again" : "first";
  return new Promise((resolve) => answered.push(resolve));
}

export function giveKey(given: string): void {
  key.value = given.trim();
  keep("key", key.value, session);
  asking.value = "no";
  for (const resolve of answered) resolve(key.value !== "");
  answered = [];
}

export function refuseKey(): void {
  asking.value = "no";
  for (const resolve of answered) resolve(false);
  answered = [];
}

export function forgetKey(): void {
  giveKey("");
}
