import { expect, test } from "vitest";

import { en } from "../../src/i18n/en";
import { zhTw } from "../../src/i18n/zh-tw";

const fields = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(([field]) => field).sort();

test("both languages have the same texts with the same fields", () => {
  expect(Object.keys(zhTw).sort()).toEqual(Object.keys(en).sort());
  for (const [key, text] of Object.entries(en)) {
    expect(fields(zhTw[key as keyof typeof en]), key).toEqual(fields(text));
  }
});

test("every text of the page is used", async () => {
  const sources = import.meta.glob("../../src/**/*.{ts,tsx}", {
    query: "?raw",
    import: "default",
    eager: true,
  });
  const code = Object.entries(sources)
    .filter(([path]) => !path.includes("/i18n/"))
    .map(([, source]) => source as string)
    .join("\n");
  const prefixes = [...code.matchAll(/tOf\("([\w.]+)"/g)].map(([, prefix]) => prefix!);
  const unused = Object.keys(en).filter(
    (key) => !code.includes(`"${key}"`) && !prefixes.some((prefix) => key.startsWith(`${prefix}.`)),
  );
  expect(unused).toEqual([]);
});
