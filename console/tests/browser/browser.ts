/** A real browser in front of a real gateway. */
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";

/** The gateway to look at, and one that wants KEY. */
export const URL_OPEN = required("CONSOLE_URL");
// Under a name that the browser does not know as this machine, so that it trusts the page less.
const FAR = "console.test";
export const URL_LOCKED = (process.env.CONSOLE_LOCKED_URL ?? "").replace("127.0.0.1", FAR);
export const KEY = "sk-canary-7f3a";

/** How long to ask again for what comes about by itself. */
export const SOON = { timeout: 20_000 };

let browser: Browser;
let faults: string[] = [];

beforeAll(async () => {
  // Without a sandbox of its own: those who test as root, as in containers, can have none.
  const args = ["--no-sandbox", `--host-resolver-rules=MAP ${FAR} 127.0.0.1`];
  browser = await chromium.launch({ executablePath: required("CHROMIUM"), args });
});

afterAll(() => browser?.close());

afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
  expect(takenFaults(), "errors in the page, or requests to other servers").toEqual([]);
});

/** What went wrong in the pages so far; a test that provokes it takes it away. */
export function takenFaults(): string[] {
  const found = faults;
  faults = [];
  return found;
}

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; tests/stack/test_console.py does that`);
  return value;
}

export interface Opening extends BrowserContextOptions {
  /** What follows the address: `#/models`. */
  panel?: string;
  url?: string;
}

/** A new page without any past. What goes wrong in it fails the test. */
export async function open({ panel = "", url = URL_OPEN, ...options }: Opening = {}): Promise<Page> {
  const context = await browser.newContext({
    locale: "en-US",
    viewport: { width: 1280, height: 820 },
    ...options,
  });
  const page = await context.newPage();
  // A limit to end what hangs, not to measure speed.
  page.setDefaultTimeout(60_000);
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("dialog", (dialog) => {
    faults.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    // A refused request is told by the browser, and shown by the page.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
      faults.push(message.text());
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) faults.push(`a request to ${request.url()}`);
  });
  await page.goto(`${url}/${panel}`);
  await page.waitForSelector("#app main");
  return page;
}

/** Write a message and send it. */
export async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel("Write a message").fill(text);
  await page.keyboard.press("Enter");
}

/** The last answer, once it is complete. */
export async function answer(page: Page): Promise<string> {
  await page.waitForSelector(
    ".message.assistant:last-of-type .figures, .message.assistant:last-of-type [role=alert]",
  );
  return page.locator(".message.assistant").last().innerText();
}
