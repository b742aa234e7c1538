/** Requests to the server that this page came from. */
import { language, t } from "../i18n";
import { ApiError, toError } from "./errors";
import { askForKey, key } from "./key";

export interface Options {
  /** Sent as JSON, by POST unless `method` says otherwise. */
  body?: unknown;
  method?: "DELETE";
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
  const init: RequestInit = { headers, signal: options.signal ?? null, method: options.method ?? "GET" };
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
