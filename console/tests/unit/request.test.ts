import { describe, expect, test } from "vitest";

import { codeOf, pythonValue } from "../../src/chat/code";
import { DEFAULTS, type Message, newConversation } from "../../src/chat/conversation";
import { bodyOf, jsonFault, withFiles } from "../../src/chat/request";

const asked: Message = { id: "q", parent: null, role: "user", text: "hi" };

describe("a request's body", () => {
  test("leaves to the server what is not set", () => {
    expect(bodyOf(newConversation(), [asked])).toEqual({ messages: [{ role: "user", content: "hi" }] });
  });

  test("has every option that is set", () => {
    const options = {
      ...DEFAULTS,
      model: "m",
      system: " be kind ",
      temperature: 0,
      max_tokens: 9,
      stop: "END\n\nSTOP",
      thinking: "off" as const,
      schema: '{"type": "object"}',
      tools: '[{"type": "function"}]',
    };
    expect(bodyOf(newConversation(options), [asked])).toEqual({
      model: "m",
      messages: [
        { role: "system", content: "be kind" },
        { role: "user", content: "hi" },
      ],
      temperature: 0,
      max_tokens: 9,
      stop: ["END", "STOP"],
      think: false,
      response_format: {
        type: "json_schema",
        json_schema: { name: "answer", schema: { type: "object" } },
      },
      tools: [{ type: "function" }],
    });
  });

  test("has calls with their results, and no answer that failed before its first word", () => {
    const call = { id: "c", name: "f", arguments: "{}" };
    const messages: Message[] = [
      asked,
      { id: "x", parent: "q", role: "assistant", text: "" },
      { id: "a", parent: "q", role: "assistant", text: "", calls: [call] },
      { id: "r", parent: "a", role: "tool", text: "42", call: { id: "c", name: "f" } },
    ];
    expect(bodyOf(newConversation(), messages).messages).toEqual([
      { role: "user", content: "hi" },
      {
        role: "assistant",
        content: "",
        tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }],
      },
      { role: "tool", tool_call_id: "c", content: "42" },
    ]);
  });

  test("has files before the text, in fences that nothing inside can close", () => {
    const text = withFiles("what is it?", [{ name: "a.md", text: "````\nx" }]);
    expect(text).toBe("a.md:\n`````\n````\nx\n`````\n\nwhat is it?");
  });

  test("is refused before it is sent if a schema is no JSON", () => {
    expect(jsonFault("")).toBe("");
    expect(jsonFault("{}")).toBe("");
    expect(jsonFault("{")).not.toBe("");
  });
});

describe("a request as code", () => {
  const body = { model: "m", messages: [{ role: "user", content: 'it\'s "me"\n' }], top_k: 4, think: true };

  test("keeps every quote in a shell", () => {
    const code = codeOf("curl", body, "http://127.0.0.1:8001");
    expect(code).toContain("curl -N http://127.0.0.1:8001/v1/chat/completions");
    expect(code).toContain(`it'\\''s \\"me\\"\\n`);
    expect(code).not.toMatch(/sk-/);
  });

  test("is Python, with the fields of other servers apart", () => {
    const code = codeOf("Python", body, "http://x");
    expect(code).toContain(`    model="m",`);
    expect(code).toContain(`    stream=True,`);
    expect(code).toMatch(/extra_body=\{\n\s+"top_k": 4,\n\s+"think": True,\n\s+\},/);
    expect(pythonValue([null, { a: [] }])).toBe('[\n    None,\n    {\n        "a": [],\n    },\n]');
  });

  test("is JavaScript that a parser takes", () => {
    const code = codeOf("JavaScript", body, "http://x");
    const call = code.slice(code.indexOf("create(") + 7, code.indexOf(");\nfor"));
    expect(JSON.parse(call)).toEqual({ ...body, stream: true });
  });
});
