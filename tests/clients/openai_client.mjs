// Talks to a server as a JavaScript program would, and prints what it got as one line of JSON.
//   node openai_client.mjs http://127.0.0.1:8001/v1

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const chat = {
  model: "qwen2-y26hkx-guide",
  messages: [{ role: "user", content: "What is Y26HKX?" }],
  temperature: 0,
};
const tool = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { type: "string", maxLength: 20 } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

const plain = await client.chat.completions.create(chat);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const helper = client.chat.completions.stream({ ...chat, tools: [tool], tool_choice: "required" });
const called = await helper.finalChatCompletion();
let nRun = 0;
const runnable = {
  ...tool,
  function: { ...tool.function, parse: JSON.parse, function: () => `sunny ${(nRun += 1)}` },
};
const forced = { type: "function", function: { name: "weather" } };
const runner = client.chat.completions.runTools(
  { ...chat, tools: [runnable], tool_choice: forced },
  { maxChatCompletions: 1 },
);
await runner.done();
const responding = client.responses.stream({ model: chat.model, input: "What is Y26HKX?" });
const kinds = [];
for await (const event of responding) kinds.push(event.type);
const responded = await responding.finalResponse();
const vectors = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: ["a", "b"] });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
let refused = null;
try {
  await client.chat.completions.create({ ...chat, temperature: 9 });
} catch (error) {
  refused = { name: error.constructor.name, status: error.status, param: error.param };
}
console.log(
  JSON.stringify({
    plain: plain.choices[0].message.content,
    streamed,
    nRun,
    responded: { text: responded.output_text, first: kinds[0], last: kinds.at(-1) },
    calls: called.choices[0].message.tool_calls,
    dimensions: vectors.data.map((one) => one.embedding.length),
    models,
    refused,
  }),
);
