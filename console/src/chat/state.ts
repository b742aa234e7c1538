/** The conversations on the page, and what is done with them. */
import { batch, computed, signal } from "@preact/signals";

import { ApiError } from "../server/errors";
import {
  branchTo,
  type Conversation,
  DEFAULTS,
  type FileText,
  leafBelow,
  type Message,
  newConversation,
  newId,
  type Options,
  withChange,
  withMessage,
} from "./conversation";
import type { Draft } from "./draft";
import { stream } from "./generation";
import { bodyOf } from "./request";
import { openStore, type Store, surplus } from "./store";

interface Run {
  stopping: AbortController;
  messageId: string;
  progress: string;
}

const all = signal<Record<string, Conversation>>({});
const currentId = signal("");
const runs = signal<Record<string, Run>>({});
export const isKept = signal(true);

export const conversations = computed(() =>
  Object.values(all.value)
    .filter((one) => one.leaf !== null)
    .sort((one, other) => other.changedAt - one.changedAt),
);
export const current = computed(() => all.value[currentId.value]!);
export const run = computed(() => runs.value[currentId.value] ?? null);

let store: Store | null = null;
// There always is a current conversation, perhaps an empty one.
begin();

/** Read what the browser kept; the latest conversation is shown. */
export async function restore(): Promise<void> {
  store = await openStore();
  isKept.value = store.keeps;
  const kept = await store.all();
  all.value = { ...Object.fromEntries(kept.map((one) => [one.id, one])), ...all.value };
  const latest = conversations.value[0];
  if (latest && current.value.leaf === null) currentId.value = latest.id;
}

/** Show an empty conversation with the present model. */
export function begin(): void {
  const before = all.value[currentId.value];
  if (before?.leaf === null) return;
  const conversation = newConversation({ ...DEFAULTS, model: before?.options.model ?? "" });
  put(conversation);
  currentId.value = conversation.id;
}

export function show(id: string): void {
  currentId.value = id;
}

export function setOptions(change: Partial<Options>): void {
  const conversation = { ...current.value, options: { ...current.value.options, ...change } };
  // One without messages is not kept.
  if (conversation.leaf === null) put(conversation);
  else void save(conversation);
}

/** Resolves once they are gone from the browser too, as far as it still stores anything. */
export async function remove(ids: readonly string[]): Promise<void> {
  for (const id of ids) runs.value[id]?.stopping.abort();
  batch(() => {
    all.value = Object.fromEntries(Object.entries(all.value).filter(([id]) => !ids.includes(id)));
    if (!all.value[currentId.value]) begin();
  });
  await stored((kept) => kept.remove(ids));
}

/** Show the branch that `message` is on. */
export function showBranch(message: Message): void {
  void save({ ...current.value, leaf: leafBelow(current.value, message) });
}

export function say(text: string, files: FileText[] = []): Promise<void> {
  return branch({ parent: current.value.leaf, role: "user", text, files });
}

/** The user's message in other words: a branch beside the old one. */
export function edit(message: Message, text: string): Promise<void> {
  return branch({ ...message, text });
}

export function giveResult(call: { id: string; name: string }, text: string): void {
  put(withMessage(current.value, { ...blank(current.value.leaf, "tool"), text, call }));
}

/** Another answer to the same message. */
export function regenerate(message: Message): Promise<void> {
  return answer(current.value, message.parent);
}

/** Let the model go on after the last message, which may be a tool's result. */
export function goOn(): Promise<void> {
  const last = current.value.messages[current.value.leaf ?? ""];
  if (last?.role === "assistant") return answer(current.value, last.parent, last);
  return answer(current.value, current.value.leaf);
}

export function stop(): void {
  run.value?.stopping.abort();
}

function branch(message: Omit<Message, "id">): Promise<void> {
  const conversation = withMessage(current.value, { ...message, id: newId() });
  return answer(conversation, conversation.leaf);
}

/**
 * Generate an answer to the message `parent`.
 *
 * @param begun an answer that is to be continued, in its place
 */
async function answer(before: Conversation, parent: string | null, begun?: Message): Promise<void> {
  const message = begun ?? blank(parent, "assistant");
  const conversation = begun ? before : withMessage(before, message);
  const id = conversation.id;
  const stopping = new AbortController();
  const sent = branchTo(conversation, begun ? begun.id : parent);
  setRun(id, { stopping, messageId: message.id, progress: "" });
  let latest: Partial<Message> = {};
  const frames = new Frames(() => change(id, message.id, latest));
  await save(conversation);
  try {
    await stream(bodyOf(conversation, sent), stopping.signal, (draft) => {
      latest = changeOf(message, draft);
      setProgress(id, draft.progress);
      frames.ask();
    });
  } catch (error) {
    latest = { ...latest, ...ending(error, latest) };
  } finally {
    frames.end();
    change(id, message.id, latest);
    setRun(id, null);
    const done = all.value[id];
    if (done) await save(done);
  }
}

function changeOf(before: Message, draft: Draft): Partial<Message> {
  const found: Partial<Message> = {
    text: before.text + draft.text,
    figures: { ...draft.figures },
    calls: draft.calls.map((call) => ({ ...call })),
  };
  const reasoning = (before.reasoning ?? "") + draft.reasoning;
  return reasoning ? { ...found, reasoning } : found;
}

function ending(error: unknown, latest: Partial<Message>): Partial<Message> {
  if (error instanceof DOMException && error.name === "AbortError") {
    return { figures: { ...latest.figures, end: "stopped" } };
  }
  const { message, suggestions, requestId } =
    error instanceof ApiError ? error : new ApiError((error as Error).message, 0);
  return { failure: { message, suggestions, requestId } };
}

/** Shows a growing answer at most once a frame. */
class Frames {
  private asked = 0;

  constructor(private readonly draw: () => void) {}

  ask(): void {
    this.asked ||= requestAnimationFrame(() => {
      this.asked = 0;
      this.draw();
    });
  }

  end(): void {
    cancelAnimationFrame(this.asked);
  }
}

function blank(parent: string | null, role: Message["role"]): Message {
  return { id: newId(), parent, role, text: "" };
}

function change(id: string, messageId: string, latest: Partial<Message>): void {
  const conversation = all.value[id];
  // It may have been deleted meanwhile.
  if (conversation) put(withChange(conversation, messageId, latest));
}

function put(conversation: Conversation): void {
  all.value = { ...all.value, [conversation.id]: conversation };
}

async function save(conversation: Conversation): Promise<void> {
  put(conversation);
  await stored((kept) => kept.put(conversation));
  const gone = surplus(conversations.value);
  if (gone.length) await remove(gone);
}

async function stored(change: (kept: Store) => Promise<void>): Promise<void> {
  try {
    if (store) await change(store);
  } catch {
    // The browser's store is full or was closed; the page itself still has everything.
    isKept.value = false;
  }
}

function setRun(id: string, found: Run | null): void {
  const { [id]: _, ...others } = runs.value;
  runs.value = found ? { ...others, [id]: found } : others;
}

function setProgress(id: string, progress: string): void {
  const found = runs.value[id];
  if (found && found.progress !== progress) setRun(id, { ...found, progress });
}
