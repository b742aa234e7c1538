/** Requests to the server that this page came from, and its errors. */
import { language, t } from "../i18n";
import { askForKey, key } from "./key";

/** An error of the server, or of the way to it (`status` 0). */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string = "",
    readonly requestId: string = "",
    readonly suggestions: readonly string[] = [],
  ) {
    super(message);
  }
}

export interface Options {
  /** Sent as JSON, by POST. */
  body?: unknown;
  signal?: AbortSignal;
  /** A request in the background asks for no key. */
  quiet?: boolean;
}

/** The answer to a request that went well; asks for a key if one is needed. */
export async function request(path: string, options: Options = {}): Promise<Response> {
  for (;;) {
    const used = key.value;
    const reply = await send(path, used, options);
    if (reply.ok) return reply;
    const error = await errorOf(reply);
    if (reply.status !== 401 || options.quiet || !(await askForKey(used))) throw error;
  }
}

export async function json<T>(path: string, options: Options = {}): Promise<T> {
  const reply = await request(path, options);
  try {
    return (await reply.json()) as T;
  } catch {
    throw new ApiError(t("error.badReply"), reply.status);
  }
}

async function send(path: string, used: string, options: Options): Promise<Response> {
  const headers = new Headers({ "Accept-Language": language.value, Accept: "application/json, */*" });
  if (used) headers.set("Authorization", `Bearer ${used}`);
  const init: RequestInit = { headers, signal: options.signal ?? null };
  if (options.body !== undefined) {
    headers.set("Content-Type", "application/json");
    init.method = "POST";
    init.body = JSON.stringify(options.body);
  }
  try {
    return await fetch(path, init);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(t("error.network"), 0);
  }
}

async function errorOf(reply: Response): Promise<ApiError> {
  let body: unknown;
  try {
    body = await reply.json();
  } catch {
    return new ApiError(`HTTP ${reply.status}`, reply.status);
  }
  return toError(body, reply.status, reply.headers.get("x-request-id") ?? "");
}

/** The error in a body or an event of a stream. */
export function toError(body: unknown, status: number, requestId = ""): ApiError {
  const found = (body as { error?: Record<string, unknown> } | null)?.error ?? {};
  const text = (name: string) => (typeof found[name] === "string" ? (found[name] as string) : "");
  const suggestions = Array.isArray(found.suggestions) ? found.suggestions.map(String) : [];
  const message = text("message") || `HTTP ${status}`;
  return new ApiError(message, status, text("code"), text("request_id") || requestId, suggestions);
}
