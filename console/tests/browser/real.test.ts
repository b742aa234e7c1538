/** The page in front of the whole stack with its built-in models. */
import { expect, test } from "vitest";

import { answer, open, say } from "./browser";

const GUIDE = "qwen2-y26hkx-guide";
const MINILM = "all-MiniLM-L6-v2";

test("the built-in model answers, with figures", async () => {
  const page = await open();
  await say(page, "How do I read the metrics?");
  const said = await answer(page);
  expect(said).toContain(GUIDE);
  expect(said).toContain("/metrics");
  expect(said).toMatch(/\d+ tokens · (.+ tokens\/s · )?first after/);
});

test("an answer follows a JSON schema", async () => {
  const page = await open();
  await page.getByRole("button", { name: "Options" }).click();
  const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };
  await page.getByLabel("JSON schema of the answer").fill(JSON.stringify(schema));
  await say(page, "Are you there?");
  await answer(page);
  const text = await page.locator(".message.assistant .markdown").innerText();
  expect(typeof (JSON.parse(text) as { ok: unknown }).ok).toBe("boolean");
});

test("models are loaded, pinned and unloaded, and the bar shows where they are", async () => {
  const page = await open({ panel: "#/models" });
  const bar = page.getByRole("region", { name: "Memory of this machine" });
  await bar.getByText("Free for models").waitFor();
  const row = page.getByRole("row", { name: MINILM });
  await row.getByRole("button", { name: "Load", exact: true }).click();
  await page.getByText(`${MINILM} was loaded in`).waitFor();
  await bar.getByText(MINILM).waitFor();
  await row.getByRole("button", { name: "Pin", exact: true }).click();
  await row.getByText("until unloaded by hand").waitFor();
  await row.getByRole("button", { name: "Unpin" }).click();
  await row.getByText(/more$/).waitFor();
  await row.getByRole("button", { name: "Unload", exact: true }).click();
  await page.getByText(`came back when ${MINILM} was unloaded`).waitFor();
  await row.getByText("not loaded").waitFor();
  await page.getByLabel("Model to load").selectOption(MINILM);
  await page.getByText("It fits:").waitFor();
  await page.getByRole("link", { name: "Live" }).click();
  const events = page.getByRole("region", { name: "Events" });
  await events
    .getByRole("row", { name: new RegExp(`unloaded ${MINILM} freed`) })
    .first()
    .waitFor();
});

test("similar texts are near, and documents are ranked by a query", async () => {
  const page = await open({ panel: "#/embeddings" });
  await page.getByLabel("Texts, one a line").fill("a cat\na kitten\na bank account");
  await page.getByRole("button", { name: "Compare" }).click();
  await page.getByText("3 vectors of 384 numbers").waitFor();
  const nearest = page.getByRole("region", { name: "Nearest neighbour of each" });
  await nearest.getByRole("row", { name: /^a cat a kitten/ }).waitFor();
  await page.getByRole("button", { name: "Rank" }).click();
  const first = page.getByRole("region", { name: "Rerank" }).getByRole("row").nth(1);
  expect(await first.innerText()).toContain("ending its process");
});

test("health and the API's description are shown", async () => {
  const page = await open({ panel: "#/health" });
  await page.getByRole("heading", { name: "Workers" }).waitFor();
  expect(await page.getByText("serves", { exact: true }).count()).toBe(2);
  await page.getByRole("link", { name: "API" }).click();
  await page.getByLabel("Search paths").fill("/v1/models/unload");
  await page.locator("summary").click();
  await page.getByRole("textbox", { name: "Body" }).fill('{"model": "nope"}');
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("404 model_not_found").waitFor();
});

test("a model is downloaded by its name once it is known what fits, and deleted", async () => {
  const page = await open({ panel: "#/models" });
  await page.getByRole("textbox", { name: /^Name/ }).fill("hf.co/org/nothing");
  await page.getByRole("button", { name: "Show what fits" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByRole("textbox", { name: /^Name/ }).fill("hf.co/org/own-GGUF");
  await page.getByRole("button", { name: "Show what fits" }).click();
  const variants = page.getByRole("region", { name: "Variants" });
  await variants.getByRole("row", { name: /^Q8_0 proposed .* fits/ }).waitFor();
  await variants
    .getByRole("row", { name: /^Q4_K_M/ })
    .getByRole("button", { name: "Download" })
    .click();
  await page.getByText("own-Q4_K_M is here and can be used.").waitFor();
  const listed = page.getByRole("region", { name: "Models on this machine" });
  await listed.getByRole("button", { name: "Delete own-Q4_K_M" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByText("own-Q4_K_M was deleted.").waitFor();
  await listed.getByRole("row", { name: /own-Q4_K_M/ }).waitFor({ state: "detached" });
});
