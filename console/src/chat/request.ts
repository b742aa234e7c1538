/** The body of a chat request, from a conversation. */
import type { Conversation, FileText, Message, Options } from "./conversation";

export type Body = Record<string, unknown>;

const NUMBERS = [
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "repetition_penalty",
  "max_tokens",
  "seed",
] as const satisfies readonly (keyof Options)[];

/** What a request with `messages` says; a field that is not set is left to the server. */
export function bodyOf(conversation: Conversation, messages: readonly Message[]): Body {
  const options = conversation.options;
  const body: Body = {};
  if (options.model) body.model = options.model;
  const system = options.system.trim();
  body.messages = [
    ...(system ? [{ role: "system", content: system }] : []),
    ...messages.filter(isSent).map(asSent),
  ];
  for (const name of NUMBERS) if (options[name] !== null) body[name] = options[name];
  const stop = options.stop.split("\n").filter((line) => line !== "");
  if (stop.length) body.stop = stop;
  if (options.thinking !== "auto") body.think = options.thinking === "on";
  if (options.schema.trim()) {
    const schema: unknown = JSON.parse(options.schema);
    body.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  }
  if (options.tools.trim()) body.tools = JSON.parse(options.tools) as unknown;
  return body;
}

/** Why a text is not the JSON that a request needs; "" if it is, or is empty. */
export function jsonFault(text: string): string {
  if (!text.trim()) return "";
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

/** An answer that failed before its first word is no part of the conversation. */
function isSent(message: Message): boolean {
  return message.role !== "assistant" || message.text !== "" || Boolean(message.calls?.length);
}

function asSent(message: Message): Body {
  if (message.role === "tool") {
    return { role: "tool", tool_call_id: message.call?.id ?? "", content: message.text };
  }
  const sent: Body = { role: message.role, content: withFiles(message.text, message.files ?? []) };
  if (message.calls?.length) {
    sent.tool_calls = message.calls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    }));
  }
  return sent;
}

/** The text with the files before it, each in a fence that is longer than any fence inside. */
export function withFiles(text: string, files: readonly FileText[]): string {
  const shown = files.map((file) => {
    const longest = Math.max(2, ...(file.text.match(/`+/g) ?? []).map((run) => run.length));
    const fence = "`".repeat(longest + 1);
    return `${file.name}:\n${fence}\n${file.text}\n${fence}`;
  });
  return [...shown, text].filter(Boolean).join("\n\n");
}
