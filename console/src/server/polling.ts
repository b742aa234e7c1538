/** Values that the page asks for again and again while it is seen. */
import { useEffect, useState } from "preact/hooks";

import { json } from "./client";
import type { ApiError } from "./errors";

export interface Polled<T> {
  value: T | null;
  error: ApiError | null;
  refresh: () => void;
}

/** The latest answer at `path`, asked for every `intervalMs` while the page is visible. */
export function usePolled<T>(path: string, intervalMs: number, onValue?: (value: T) => void): Polled<T> {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [asked, setAsked] = useState(0);

  useEffect(() => {
    const ending = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    // Only the first question may ask for a key, or a refused one would be asked for for ever.
    let quiet = false;

    async function ask() {
      clearTimeout(timer);
      if (document.hidden) return;
      try {
        const found = await json<T>(path, { signal: ending.signal, quiet });
        setValue(found);
        setError(null);
        onValue?.(found);
      } catch (caught) {
        if (ending.signal.aborted) return;
        setError(caught as ApiError);
        quiet = true;
      }
      if (!ending.signal.aborted) timer = setTimeout(ask, intervalMs);
    }

    void ask();
    document.addEventListener("visibilitychange", ask);
    return () => {
      ending.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, [path, intervalMs, asked]);

  return { value, error, refresh: () => setAsked((n) => n + 1) };
}
