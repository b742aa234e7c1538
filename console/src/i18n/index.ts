/** The texts of the page in the reader's language. */
import { computed, effect, signal } from "@preact/signals";

import { kept, keep } from "../shell/browser-store";
import { en, type TextKey } from "./en";
import { zhTw } from "./zh-tw";

export type { TextKey };
export const LANGUAGES = { en: "English", "zh-TW": "正體中文" } as const;
export type Language = keyof typeof LANGUAGES;

const texts: Record<Language, Record<TextKey, string>> = { en, "zh-TW": zhTw };

export const language = signal<Language>(kept("language", isLanguage) ?? spoken(navigator.languages));
effect(() => {
  keep("language", language.value);
  document.documentElement.lang = language.value;
});

function isLanguage(value: string): value is Language {
  return value in LANGUAGES;
}

/** The first of the reader's languages that the page has, else English. */
export function spoken(preferred: readonly string[]): Language {
  for (const tag of preferred) {
    if (/^zh\b(?!-(cn|sg|hans))/i.test(tag)) return "zh-TW";
    if (/^en\b/i.test(tag)) return "en";
  }
  return "en";
}

/** The text of `key`, with `{name}` replaced by the fields. */
export function t(key: TextKey, fields: Record<string, string | number> = {}): string {
  return texts[language.value][key].replace(/\{(\w+)\}/g, (all, name: string) =>
    name in fields ? String(fields[name]) : all,
  );
}

/** The text of a key that a server's word is part of; the word itself if there is none. */
export function tOf(prefix: string, word: string): string {
  const key = `${prefix}.${word}`;
  return key in en ? t(key as TextKey) : word.replaceAll("_", " ");
}

const plain = computed(() => new Intl.NumberFormat(language.value, { maximumFractionDigits: 2 }));

export function number(value: number, digits = 0): string {
  return plain.value.format(Number(value.toFixed(digits)));
}

export function bytes(value: number): string {
  const mib = value / 2 ** 20;
  if (mib < 1) return `${number(value / 1024)} KiB`;
  return mib < 1000 ? `${number(mib, mib < 10 ? 1 : 0)} MiB` : `${number(mib / 1024, 1)} GiB`;
}

export function seconds(value: number): string {
  if (value < 1) return `${number(value * 1000)} ms`;
  if (value < 60) return `${number(value, value < 10 ? 1 : 0)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = value / 3600;
  return hours < 48 ? `${number(hours, 1)} h` : `${number(hours / 24)} d`;
}

export function time(epochSeconds: number): string {
  return new Date(epochSeconds * 1000).toLocaleTimeString(language.value, { hour12: false });
}
