/** A conversation as a tree: each message knows the one it answers, so that an edit is a branch. */

export interface FileText {
  name: string;
  text: string;
}

export interface Call {
  id: string;
  name: string;
  /** JSON text, as the model wrote it. */
  arguments: string;
}

/** What is known about an answer beside its text. */
export interface Figures {
  promptTokens?: number;
  cachedTokens?: number;
  tokens?: number;
  firstSeconds?: number;
  tokensPerSecond?: number;
  trimmedTokens?: number;
  reduced?: string[];
  ignored?: string;
  model?: string;
  /** Why it ended: the API's reason, or "stopped" by the reader. */
  end?: string;
}

export interface Failure {
  message: string;
  suggestions: readonly string[];
  requestId: string;
}

export interface Message {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool";
  text: string;
  files?: FileText[];
  reasoning?: string;
  calls?: Call[];
  /** Of a tool's result: the call that it answers. */
  call?: { id: string; name: string };
  figures?: Figures;
  failure?: Failure;
}

export interface Options {
  model: string;
  system: string;
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  min_p: number | null;
  repetition_penalty: number | null;
  max_tokens: number | null;
  seed: number | null;
  stop: string;
  thinking: "auto" | "on" | "off";
  schema: string;
  tools: string;
}

export const DEFAULTS: Options = {
  model: "",
  system: "",
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  repetition_penalty: null,
  max_tokens: null,
  seed: null,
  stop: "",
  thinking: "auto",
  schema: "",
  tools: "",
};

export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since the epoch. */
  changedAt: number;
  messages: Record<string, Message>;
  /** The last message of the branch that is shown. */
  leaf: string | null;
  options: Options;
}

const TITLE_LENGTH = 60;

/** A name that nothing else has. (`randomUUID` is missing on pages that came over plain HTTP.) */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(options: Options = DEFAULTS): Conversation {
  return { id: newId(), title: "", changedAt: Date.now(), messages: {}, leaf: null, options };
}

/** The messages from the first to `to`. */
export function branchTo(conversation: Conversation, to: string | null): Message[] {
  const found: Message[] = [];
  for (let at = to; at !== null;) {
    const message: Message | undefined = conversation.messages[at];
    // A broken store must not make the page turn in a circle.
    if (!message || found.length > Object.keys(conversation.messages).length) break;
    found.unshift(message);
    at = message.parent;
  }
  return found;
}

export function shownBranch(conversation: Conversation): Message[] {
  return branchTo(conversation, conversation.leaf);
}

/** All answers to the same message, in the order in which they were made. */
export function siblings(conversation: Conversation, message: Message): Message[] {
  return Object.values(conversation.messages).filter((other) => other.parent === message.parent);
}

/** The end of the branch on which `message` is, by the newest answer each time. */
export function leafBelow(conversation: Conversation, message: Message): string {
  const all = Object.values(conversation.messages);
  let at = message;
  for (let n = 0; n < all.length; n++) {
    const next = all.findLast((other) => other.parent === at.id);
    if (!next) break;
    at = next;
  }
  return at.id;
}

/** The conversation with one more message, which becomes the end of the shown branch. */
export function withMessage(conversation: Conversation, message: Message): Conversation {
  const title = conversation.title || titleOf(message.text);
  const messages = { ...conversation.messages, [message.id]: message };
  return { ...conversation, title, messages, leaf: message.id, changedAt: Date.now() };
}

/** The conversation with one of its messages changed. */
export function withChange(conversation: Conversation, id: string, change: Partial<Message>): Conversation {
  const message = conversation.messages[id];
  if (!message) return conversation;
  const messages = { ...conversation.messages, [id]: { ...message, ...change } };
  return { ...conversation, messages, changedAt: Date.now() };
}

export function titleOf(text: string): string {
  const line = text.trim().split("\n", 1)[0] ?? "";
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH)}…` : line;
}

/** The calls of the last message that no result answers yet. */
export function openCalls(branch: readonly Message[]): Call[] {
  const at = branch.findLastIndex((message) => message.role === "assistant");
  const answered = new Set(branch.slice(at + 1).map((message) => message.call?.id));
  return (branch[at]?.calls ?? []).filter((call) => !answered.has(call.id));
}
