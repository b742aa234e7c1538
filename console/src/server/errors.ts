/** Errors of the server. */

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

/** The error in a body or an event of a stream. */
export function toError(body: unknown, status: number, requestId = ""): ApiError {
  const found = (body as { error?: Record<string, unknown> } | null)?.error ?? {};
  const text = (name: string) => (typeof found[name] === "string" ? (found[name] as string) : "");
  const suggestions = Array.isArray(found.suggestions) ? found.suggestions.map(String) : [];
  const message = text("message") || `HTTP ${status}`;
  return new ApiError(message, status, text("code"), text("request_id") || requestId, suggestions);
}
