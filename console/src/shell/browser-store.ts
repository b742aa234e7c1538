/** Small values in the browser's own stores, which may be full, forbidden or broken. */

const PREFIX = "y26hkx.";

export function kept<T extends string>(
  name: string,
  isValid: (value: string) => value is T,
  store: () => Storage = () => localStorage,
): T | null {
  try {
    const value = store().getItem(PREFIX + name);
    return value !== null && isValid(value) ? value : null;
  } catch {
    // A browser may forbid its stores to a page; then nothing is kept.
    return null;
  }
}

export function keep(name: string, value: string, store: () => Storage = () => localStorage): void {
  try {
    if (value) store().setItem(PREFIX + name, value);
    else store().removeItem(PREFIX + name);
  } catch {
    // As above: the value lasts as long as the page.
  }
}
