/** Light, dark, or as the system says. */
import { effect, signal } from "@preact/signals";

import { keep, kept } from "./browser-store";

export const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(prefersDark.matches);
prefersDark.addEventListener("change", (event) => (systemIsDark.value = event.matches));

export const theme = signal<Theme>(kept("theme", isTheme) ?? "auto");
/** The theme that is shown. */
export const shown = signal<"light" | "dark">("light");
effect(() => {
  keep("theme", theme.value);
  shown.value = theme.value === "auto" ? (systemIsDark.value ? "dark" : "light") : theme.value;
  document.documentElement.dataset.theme = shown.value;
});

function isTheme(value: string): value is Theme {
  return (THEMES as readonly string[]).includes(value);
}
