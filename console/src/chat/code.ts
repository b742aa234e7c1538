/** A chat request as code that sends it. */
import type { Body } from "./request";

export const LANGUAGES = ["curl", "Python", "JavaScript"] as const;
export type CodeLanguage = (typeof LANGUAGES)[number];

const KEY = "YOUR_KEY";
// Fields that OpenAI's Python SDK knows; it takes others in `extra_body`.
const OPENAI = new Set([
  ...["model", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "tools"],
  ...["response_format", "stream"],
]);

export function codeOf(language: CodeLanguage, body: Body, origin: string): string {
  const streamed = { ...body, stream: true };
  if (language === "curl") return curl(streamed, origin);
  return language === "Python" ? python(streamed, origin) : javascript(streamed, origin);
}

function curl(body: Body, origin: string): string {
  // Within single quotes a POSIX shell reads nothing but the quote itself.
  const data = JSON.stringify(body, null, 2).replaceAll("'", `'\\''`);
  return [
    `curl -N ${origin}/v1/chat/completions \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -H 'Authorization: Bearer ${KEY}' \\`,
    `  -d '${data}'`,
  ].join("\n");
}

function python(body: Body, origin: string): string {
  const known = Object.entries(body).filter(([name]) => OPENAI.has(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !OPENAI.has(name)));
  const fields = known.map(([name, value]) => `    ${name}=${pythonValue(value, 4)},`);
  if (!("model" in body)) fields.unshift(`    model="",`);
  if (Object.keys(extra).length) fields.push(`    extra_body=${pythonValue(extra, 4)},`);
  return [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${origin}/v1", api_key="${KEY}")`,
    "stream = client.chat.completions.create(",
    ...fields,
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    `        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  ].join("\n");
}

function javascript(body: Body, origin: string): string {
  return [
    `import OpenAI from "openai";`,
    "",
    `const client = new OpenAI({ baseURL: "${origin}/v1", apiKey: "${KEY}" });`,
    `const stream = await client.chat.completions.create(${JSON.stringify(body, null, 2)});`,
    "for await (const chunk of stream) {",
    `  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");`,
    "}",
  ].join("\n");
}

/** A JSON value as a Python literal. */
export function pythonValue(value: unknown, indent = 0): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = " ".repeat(indent + 4);
  const parts = Array.isArray(value)
    ? value.map((item) => pythonValue(item, indent + 4))
    : Object.entries(value).map(
        ([name, item]) => `${JSON.stringify(name)}: ${pythonValue(item, indent + 4)}`,
      );
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!parts.length) return `${open}${close}`;
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${" ".repeat(indent)}${close}`;
}
