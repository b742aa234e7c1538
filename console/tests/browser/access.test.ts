/** Who can use the page: keyboards, screen readers, phones, two languages, two themes. */
import axe from "axe-core";
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";

import { answer, open, say, SOON } from "./browser";

const PANELS = ["chat", "models", "live", "embeddings", "health", "reference"];
const PHONE = { width: 360, height: 720 };

async function settled(page: Page): Promise<void> {
  await page.waitForSelector("main .chat, main .panel h1");
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations: found } = await page.evaluate(() =>
    (window as unknown as { axe: typeof axe }).axe.run(),
  );
  return found.map((one) => `${one.impact} ${one.id}: ${one.nodes.map((node) => node.html).join(" | ")}`);
}

describe.each(["light", "dark"] as const)("in the %s theme", (colorScheme) => {
  test.each(PANELS)("axe finds nothing in the panel %s", async (panel) => {
    const page = await open({ panel: `#/${panel}`, colorScheme });
    await settled(page);
    expect(await violations(page)).toEqual([]);
  });

  test("axe finds nothing in a conversation with options, notes, calls and errors", async () => {
    const page = await open({ colorScheme });
    for (const text of [
      "# a\n\n[link](https://good.example) `code`\n\n```js\n1\n```",
      "trimmed and reduced",
      "fail",
    ]) {
      await say(page, text);
      await answer(page);
    }
    await say(page, "think and call");
    await page.getByLabel("Result of weather").waitFor();
    await page.getByRole("button", { name: "Options" }).click();
    expect(await violations(page)).toEqual([]);
    await page.getByRole("button", { name: "Code" }).click();
    expect(await violations(page)).toEqual([]);
  });
});

test("axe finds nothing in an opened path of the API, nor in the results of embeddings", async () => {
  const page = await open({ panel: "#/reference" });
  await page.locator("summary").first().click();
  await page.getByText("Fields of the body").waitFor();
  expect(await violations(page)).toEqual([]);
  await page.goto(page.url().replace("reference", "embeddings"));
  await page.getByRole("button", { name: "Compare" }).click();
  await page.getByRole("button", { name: "Rank" }).click();
  await page.getByRole("region", { name: "Rerank" }).waitFor();
  await page.getByRole("region", { name: "Nearest neighbour of each" }).waitFor();
  expect(await violations(page)).toEqual([]);
});

test("everything is reached and used from the keyboard", async () => {
  const page = await open({ panel: "#/models" });
  await settled(page);
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Skip to content");
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Chat");
  await page.keyboard.press("Enter");
  await page.getByLabel("Write a message").waitFor();
  // The message is where one writes at once.
  await expect.poll(() => page.evaluate(() => document.activeElement?.tagName), SOON).toBe("TEXTAREA");
  await page.keyboard.type("one");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  await page.keyboard.press("Enter");
  expect(await answer(page)).toMatch(/one\s+two/);
  await page.keyboard.press("Shift+Tab");
  const focused = await page.evaluate(() => {
    const style = getComputedStyle(document.activeElement!);
    return `${style.outlineStyle} ${style.outlineWidth}`;
  });
  expect(focused).toBe("solid 2px");
});

test("a word that is being composed is not sent by Enter", async () => {
  const page = await open();
  const box = page.getByLabel("Write a message");
  await box.fill("台");
  await box.dispatchEvent("keydown", { key: "Enter", isComposing: true });
  expect(await box.inputValue()).toBe("台");
  expect(await page.locator(".message").count()).toBe(0);
});

test("the reader's language is taken, can be changed, and is remembered", async () => {
  const page = await open({ locale: "zh-TW" });
  await page.getByRole("link", { name: "模型" }).waitFor();
  expect(await page.locator("html").getAttribute("lang")).toBe("zh-TW");
  await page.getByLabel("輸入訊息").fill("fail");
  await page.keyboard.press("Enter");
  // The server's errors are in the page's language.
  await page.getByRole("alert").getByText("64 個請求在執行").waitFor();
  await page.getByLabel("語言").selectOption("en");
  await page.getByRole("link", { name: "Models" }).waitFor();
  await page.reload();
  await page.getByRole("link", { name: "Models" }).waitFor();
  expect(await page.locator("html").getAttribute("lang")).toBe("en");
});

test("the theme follows the system until one is chosen", async () => {
  const page = await open({ colorScheme: "dark" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await expect.poll(ground, SOON).toBe("rgb(20, 23, 26)");
  await page.emulateMedia({ colorScheme: "light" });
  await expect.poll(ground, SOON).toBe("rgb(246, 246, 244)");
  await page.getByLabel("Theme").selectOption("dark");
  await expect.poll(ground, SOON).toBe("rgb(20, 23, 26)");
});

test.each(PANELS)("on a phone the panel %s fits, and the menu opens and closes", async (panel) => {
  const page = await open({ panel: `#/${panel}`, viewport: PHONE });
  await settled(page);
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(await overflow()).toBeLessThanOrEqual(0);
  const wide = await page.evaluate(() => {
    const main = document.querySelector("main")!;
    return main.scrollWidth - main.clientWidth;
  });
  expect(wide).toBeLessThanOrEqual(0);
  expect(await page.getByRole("link", { name: "Health" }).isVisible()).toBe(false);
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("link", { name: "Health" }).click();
  await page.getByRole("heading", { name: "Health" }).waitFor();
  await page.getByRole("link", { name: "Health" }).waitFor({ state: "hidden" });
});
