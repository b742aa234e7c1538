import { expect, test } from "vitest";

import { type Document, operationsOf, typeOf } from "../../src/reference/openapi";

const document: Document = {
  info: { title: "x", version: "1" },
  paths: {
    "/v1/things": {
      post: {
        description: "Make a thing.",
        requestBody: { content: { "application/json": { schema: { $ref: "#/components/schemas/Thing" } } } },
        responses: {
          "200": { description: "ok", content: { "text/event-stream": {} } },
          "400": { description: "bad" },
        },
      },
      get: {},
    },
  },
  components: {
    schemas: {
      Thing: {
        required: ["name"],
        properties: {
          zeta: {},
          size: { anyOf: [{ type: "integer", minimum: 1, maximum: 9 }, { type: "null" }] },
          name: { type: "string", maxLength: 5, description: "Its name." },
        },
      },
    },
  },
};

test("an operation has its fields, what is required first and what may be anything last", () => {
  const [post, get] = operationsOf(document);
  expect(post).toMatchObject({ method: "POST", path: "/v1/things", about: "Make a thing.", hasBody: true });
  expect(post!.fields).toEqual([
    { name: "name", type: "string", about: "Its name. ≤ 5", isRequired: true },
    { name: "size", type: "integer", about: "1…9", isRequired: false },
    { name: "zeta", type: "any", about: "", isRequired: false },
  ]);
  expect(post!.answers).toEqual([
    { status: "200", about: "ok", types: ["text/event-stream"] },
    { status: "400", about: "bad", types: [] },
  ]);
  expect(get).toMatchObject({ hasBody: false, fields: [], answers: [] });
});

test("a type is told in words", () => {
  expect(typeOf({ type: "array", items: { $ref: "#/components/schemas/Thing" } })).toBe("array of Thing");
  expect(typeOf({ oneOf: [{ type: "string" }, { type: "string" }, { const: 1 }] })).toBe("string or 1");
  expect(typeOf({ enum: ["a", "b"] })).toBe('"a" or "b"');
  expect(typeOf({ type: ["string", "null"] })).toBe("string");
});
