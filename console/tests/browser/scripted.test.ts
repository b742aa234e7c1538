/** The page in front of a gateway whose worker says what it is told to (tests/stack/test_console.py). */
import { expect, test } from "vitest";

import { answer, KEY, open, say, SOON, takenFaults, URL_LOCKED, URL_OPEN } from "./browser";

const HOSTILE = [
  "<script>window.pwned = 1</script>",
  '<img src="x" onerror="window.pwned = 1">',
  '<img src="https://evil.example/steal.png">',
  '<svg onload="window.pwned = 1"></svg>',
  '<iframe src="https://evil.example"></iframe>',
  '<a href="javascript:window.pwned = 1">click</a>',
  "[one](javascript:window.pwned=1)",
  "[two](JaVaScRiPt&#58;window.pwned=1)",
  "[three](data:text/html,<script>window.pwned=1</script>)",
  "[four](vbscript:x)",
  '[five](https://good.example "\\" onmouseover=\\"window.pwned=1")',
  "![image](https://evil.example/pixel.png)",
  "![image](data:image/svg+xml,<svg/onload=window.pwned=1>)",
  '![x"onerror="window.pwned=1](x)',
  "<style>body { display: none }</style>",
  '<form action="https://evil.example"><input name="q"></form>',
  '<math><mtext><table><mglyph><style><img src onerror="window.pwned=1">',
  "```html\n</code></pre><script>window.pwned = 1</script>\n```",
  "`<script>window.pwned = 1</script>`",
  "| <img src=x onerror=window.pwned=1> |\n|---|\n| <script>window.pwned=1</script> |",
  "<https://good.example/?<script>>",
  "[ref]\n\n[ref]: javascript:window.pwned=1",
];

test("an answer is shown while it grows, and stopped by the button", async () => {
  const page = await open();
  await say(page, "endless");
  await page.getByText("one two three").waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  expect(await answer(page)).toContain("Stopped");
  await expect
    .poll(async () => (await (await fetch(`${URL_OPEN}/health/activity`)).json()).requests, SOON)
    .toEqual([]);
  await page.getByRole("button", { name: "Continue" }).waitFor();
});

test("Escape stops an answer too", async () => {
  const page = await open();
  await say(page, "endless");
  await page.getByText("one two three").waitFor();
  await page.getByLabel("Write a message").press("Escape");
  expect(await answer(page)).toContain("Stopped");
});

test("an image is refused before anything is sent, chosen, pasted or dropped", async () => {
  const page = await open();
  const sent: string[] = [];
  page.on("request", (request) => {
    if (request.method() === "POST") sent.push(request.url());
  });
  const send = page.getByRole("button", { name: "Send", exact: true });
  const buffer = Buffer.from("89504e470d0a1a0a", "hex");
  await page.locator("input[type=file]").setInputFiles({ name: "chosen.png", mimeType: "image/png", buffer });
  await page.getByText("chosen.png was left out: the models here read text only").waitFor();
  for (const [type, field] of [
    ["paste", "clipboardData"],
    ["drop", "dataTransfer"],
  ] as const) {
    await page.getByLabel("Write a message").evaluate(
      (area, [type, field]) => {
        const carried = new DataTransfer();
        carried.items.add(new File(["x"], `${type}.jpg`, { type: "image/jpeg" }));
        const event = new Event(type, { bubbles: true, cancelable: true });
        Object.defineProperty(event, field, { value: carried });
        area.dispatchEvent(event);
      },
      [type, field] as const,
    );
    await page.getByText(`${type}.jpg was left out: the models here read text only`).waitFor();
  }
  expect(await send.isDisabled()).toBe(true);
  expect(sent).toEqual([]);
});

test.each(HOSTILE)("nothing that a model writes is alive: %s", async (text) => {
  const page = await open();
  await say(page, text);
  await answer(page);
  const shown = page.locator(".message.assistant .markdown");
  const found = await shown.evaluate((root) => ({
    elements: [
      ...root.querySelectorAll(
        "script, img, svg:not(.icon), iframe, style, form, input, object, embed, math",
      ),
    ].map((element) => element.outerHTML),
    handlers: [...root.querySelectorAll("*")].flatMap((element) =>
      element.getAttributeNames().filter((name) => name.startsWith("on")),
    ),
    links: [...root.querySelectorAll("a")].map((link) => ({
      href: link.href,
      rel: link.rel,
      target: link.target,
    })),
  }));
  expect(found.elements).toEqual([]);
  expect(found.handlers).toEqual([]);
  for (const link of found.links.filter(({ href }) => href)) {
    expect(link.href).toMatch(/^(https?|mailto):/);
    expect(link).toMatchObject({ rel: "noopener noreferrer nofollow", target: "_blank" });
  }
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
  expect(await page.evaluate(() => getComputedStyle(document.body).display)).not.toBe("none");
});

test("the browser itself refuses HTML, scripts and calls that the page did not come with", async () => {
  const page = await open();
  const tried = await page.evaluate(async () => {
    const attempts: Record<string, () => unknown> = {
      html: () => (document.createElement("div").innerHTML = "<b>x</b>"),
      script: () => (document.createElement("script").textContent = "window.pwned = 1"),
      call: () => fetch("https://evil.example"),
    };
    const refused: string[] = [];
    for (const [name, attempt] of Object.entries(attempts)) {
      await Promise.resolve()
        .then(attempt)
        .catch(() => refused.push(name));
    }
    return refused;
  });
  expect(tried).toEqual(["html", "script", "call"]);
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
  expect(takenFaults().length).toBeGreaterThan(2);
});

test("HTML is shown as the text that it is, and an image as a link", async () => {
  const page = await open();
  await say(page, "a <b>bold</b> word\n\n<div>block</div>\n\n![cat](https://far.example/cat.png)");
  await answer(page);
  const shown = page.locator(".message.assistant .markdown");
  expect(await shown.innerText()).toContain("a <b>bold</b> word");
  expect(await shown.innerText()).toContain("<div>block</div>");
  const link = shown.getByRole("link", { name: "[image, not loaded: cat]" });
  expect(await link.getAttribute("href")).toBe("https://far.example/cat.png");
});

test("markdown is shown as such", async () => {
  const page = await open();
  await say(
    page,
    "# Title\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n**bold** `code`\n\n```python\nprint(1)\n```",
  );
  await answer(page);
  const shown = page.locator(".message.assistant .markdown");
  expect(await shown.locator("h1").innerText()).toBe("Title");
  expect(await shown.locator("li").count()).toBe(2);
  expect(await shown.locator("td").count()).toBe(2);
  expect(await shown.locator("pre code").innerText()).toBe("print(1)");
  expect(await shown.locator(".code-head").innerText()).toBe("python");
});

test("an edited message is a branch, and so is another answer", async () => {
  const page = await open();
  await say(page, "first");
  await answer(page);
  await page.locator(".message.user").hover();
  await page.getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Edit").fill("second");
  await page.getByRole("button", { name: "Send as a new branch" }).click();
  expect(await answer(page)).toContain("second");
  await page.getByText("2/2").waitFor();
  await page.getByRole("button", { name: "Previous branch" }).click();
  expect(await answer(page)).toContain("first");
  await page.getByRole("button", { name: "Regenerate" }).click();
  await page.locator(".message.assistant").getByText("2/2").waitFor();
});

test("thinking is folded, and calls ask for their results", async () => {
  const page = await open();
  await say(page, "think and call");
  await page.getByText("Thinking").waitFor();
  await page.getByText("Call of weather", { exact: true }).waitFor();
  expect(await page.getByText("I should look").isVisible()).toBe(false);
  await page.getByLabel("Result of weather").fill("sunny");
  await page.getByRole("button", { name: "Send result" }).click();
  await page.getByText("It is sunny").waitFor();
});

test("what was trimmed, reduced and ignored is said", async () => {
  const page = await open();
  await say(page, "trimmed and reduced");
  const said = await answer(page);
  expect(said).toContain("12 tokens of the oldest turns were left out");
  expect(said).toContain("Loaded smaller, as memory is short: KV cache in q8_0.");
  expect(said).toContain("No effect here: top_k.");
  expect(said).toMatch(/tokens · .*in the prompt/);
});

test("an error is shown with what helps, and can be tried again", async () => {
  const page = await open();
  await say(page, "fail");
  const alert = page.getByRole("alert");
  await alert.waitFor();
  expect(await alert.innerText()).toMatch(/64 requests are running[\s\S]*wait a moment[\s\S]*Request req_/);
  await alert.getByRole("button", { name: "Try again" }).click();
  await alert.waitFor();
});

test("a stream that breaks keeps its text and says why", async () => {
  const page = await open();
  await say(page, "break");
  await page.getByRole("alert").waitFor();
  const said = await page.locator(".message.assistant").innerText();
  expect(said).toContain("so far");
  expect(said).toContain("ended the answer too early");
});

test("a panel that cannot be fetched says so, and a reload brings it", async () => {
  const page = await open();
  await page.route("**/models-panel-*.js", (route) => route.abort());
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByText("The server cannot be reached.").waitFor();
  await page.unroute("**/models-panel-*.js");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "Models", exact: true }).waitFor();
});

test("text files are sent with a message, and others are not", async () => {
  const page = await open();
  await page.setInputFiles("input[type=file]", [
    { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("the answer is 42") },
    { name: "archive.zip", mimeType: "application/zip", buffer: Buffer.from([0x89, 0x50, 0xff, 0x00]) },
  ]);
  await page.getByText("archive.zip is not a text file").waitFor();
  await say(page, "read it");
  const said = await answer(page);
  expect(said).toContain("notes.txt");
  expect(said).toContain("the answer is 42");
});

test("options reach the server, and wrong JSON keeps a message back", async () => {
  const page = await open();
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("System prompt").fill("be brief");
  await page.getByLabel("Temperature").fill("0.3");
  await page.getByLabel("JSON schema of the answer").fill("{");
  await page.getByText("This is not valid JSON").waitFor();
  await page.getByLabel("Write a message").fill("options");
  expect(await page.getByRole("button", { name: "Send" }).isDisabled()).toBe(true);
  await page.getByLabel("JSON schema of the answer").fill("");
  await page.getByLabel("Write a message").press("Enter");
  expect(await answer(page)).toContain("system be brief, temperature 0.3");
});

test("conversations outlive the page until they are deleted", async () => {
  const page = await open();
  await say(page, "remember me");
  await answer(page);
  await page.getByRole("button", { name: "New conversation" }).click();
  await say(page, "and me");
  await answer(page);
  await page.reload();
  const list = page.getByRole("region", { name: "Conversations" });
  await list.getByRole("button", { name: "remember me", exact: true }).click();
  await page.locator(".message.user").getByText("remember me").waitFor();
  await list.getByRole("button", { name: "Delete: remember me" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.reload();
  await list.getByRole("button", { name: "and me", exact: true }).waitFor();
  expect(await list.getByText("remember me").count()).toBe(0);
});

test("the request is shown as code without any key", async () => {
  const page = await open();
  await say(page, "hello");
  await answer(page);
  await page.getByRole("button", { name: "Code" }).click();
  const dialog = page.getByRole("dialog");
  expect(await dialog.innerText()).toContain(`curl -N ${URL_OPEN}/v1/chat/completions`);
  await dialog.getByRole("button", { name: "Python" }).click();
  expect(await dialog.innerText()).toContain("from openai import OpenAI");
  await page.keyboard.press("Escape");
  expect(await dialog.count()).toBe(0);
});

test("a running request is listed, and ended from the live panel", async () => {
  const page = await open();
  await say(page, "endless");
  await page.getByText("one two three").waitFor();
  await page.getByRole("link", { name: "Live" }).click();
  const row = page.getByRole("row", { name: /req_/ });
  await row.getByText("answers").waitFor();
  await row.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("No request runs or waits.").waitFor();
  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByText("cancelled by an operator").waitFor();
});

test("a key is asked for once, kept for the tab, and in no address", async () => {
  const page = await open({ url: URL_LOCKED });
  const dialog = page.getByRole("dialog", { name: "This server needs a key" });
  await dialog.getByLabel("API key").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("did not accept this key").waitFor();
  await dialog.getByLabel("API key").fill(KEY);
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  const asked: { url: string; key: string | undefined }[] = [];
  page.on("request", (request) => asked.push({ url: request.url(), key: request.headers().authorization }));
  await say(page, "hello");
  expect(await answer(page)).toContain("hello");
  // This page came over plain HTTP and has no clipboard of its own.
  await page.locator(".message.assistant").getByRole("button", { name: "Copy" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  await page.reload();
  await page.getByLabel("Model").locator("option").first().waitFor({ state: "attached" });
  expect(await page.getByRole("dialog").count()).toBe(0);
  const calls = asked.filter(({ url }) => url.includes("/v1/"));
  expect(calls.length).toBeGreaterThan(1);
  expect(calls.every(({ key }) => key === `Bearer ${KEY}`)).toBe(true);
  expect(asked.some(({ url }) => url.includes(KEY))).toBe(false);
  expect(await page.evaluate(() => JSON.stringify(localStorage))).not.toContain(KEY);
  await page.getByRole("button", { name: "Forget key" }).click();
  expect(await page.evaluate(() => JSON.stringify(sessionStorage))).not.toContain(KEY);
});

test("an admin sees the keys with their limits, and what they have used", async () => {
  const page = await open({ url: URL_LOCKED });
  await page.getByRole("dialog").getByLabel("API key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await say(page, "counted");
  expect(await answer(page)).toContain("counted");
  await page.getByRole("link", { name: "Health" }).click();
  const keys = page.getByRole("region", { name: "Keys" });
  const bob = keys.getByRole("row", { name: /bob/ });
  await bob.waitFor();
  expect(await bob.innerText()).toContain("1,000 tokens a day");
  expect(await bob.innerText()).toContain("chat-small");
  const used = page.getByRole("region", { name: "Used in the last 30 days" });
  await used.getByRole("row").nth(1).waitFor();
});
