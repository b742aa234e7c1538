// Tool loops of other people's JavaScript clients: two turns, the first with a call and its result.
//   node javascript_loops.mjs ai http://127.0.0.1:8001/v1
// It prints what it got as one line of JSON: the calls, the answer to their result, and the answer
// of the second turn.

const [name, baseURL] = process.argv.slice(2);
const MODEL = "qwen2-y26hkx-guide";
const QUESTION = "Which weather has Bern?";
const MORE = "What is Y26HKX?";
const MOST_TOKENS = 200;

async function ai(api) {
  const { streamText, stepCountIs, tool } = await import("ai");
  const { createOpenAI } = await import("@ai-sdk/openai");
  const { z } = await import("zod");
  const openai = createOpenAI({ baseURL, apiKey: "none" });
  const calls = [];
  const weather = tool({
    description: "Of a city.",
    inputSchema: z.object({ city: z.enum(["Bern", "Oslo"]) }),
    execute: async (input) => {
      calls.push(JSON.stringify(input));
      return "sunny";
    },
  });
  const ask = async (messages, forced) => {
    let failure;
    const result = streamText({
      model: api === "chat" ? openai.chat(MODEL) : openai(MODEL),
      messages,
      tools: { weather },
      maxOutputTokens: MOST_TOKENS,
      temperature: 0,
      maxRetries: 0,
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: forced && !stepNumber ? "required" : "auto" }),
      // What is thrown here is lost: its place is taken by "No output generated".
      onError: ({ error }) => (failure ??= error),
    });
    let text = "";
    for await (const piece of result.textStream) text += piece;
    if (failure) throw failure;
    return { text, messages: (await result.response).messages };
  };
  const first = [{ role: "user", content: QUESTION }];
  const answer = await ask(first, true);
  const second = await ask([...first, ...answer.messages, { role: "user", content: MORE }], false);
  return { calls, answer: answer.text, second: second.text };
}

async function agents() {
  const { Agent, OpenAIProvider, Runner, setTracingDisabled, tool, user } =
    await import("@openai/agents");
  const { z } = await import("zod");
  setTracingDisabled(true);
  const calls = [];
  const weather = tool({
    name: "weather",
    description: "Of a city.",
    parameters: z.object({ city: z.enum(["Bern", "Oslo"]) }),
    execute: async (input) => {
      calls.push(JSON.stringify(input));
      return "sunny";
    },
  });
  const modelProvider = new OpenAIProvider({ baseURL, apiKey: "none", useResponses: true });
  const runner = new Runner({ modelProvider });
  const settings = { maxTokens: MOST_TOKENS, temperature: 0, parallelToolCalls: false };
  const agent = (toolChoice) =>
    new Agent({
      name: "guide",
      instructions: "Help.",
      model: MODEL,
      tools: [weather],
      modelSettings: { ...settings, toolChoice },
    });
  const ask = async (input, toolChoice) => {
    const result = await runner.run(agent(toolChoice), input, { stream: true });
    for await (const _ of result) {
      // Events are read to the end, as a program does that shows them.
    }
    await result.completed;
    return result;
  };
  const first = await ask(QUESTION, "required");
  const second = await ask([...first.history, user(MORE)], "auto");
  return { calls, answer: first.finalOutput, second: second.finalOutput };
}

const clients = { ai, ai_chat: () => ai("chat"), agents };
console.log(JSON.stringify(await clients[name]()));
