// npm's Ollama package against the server at argv[2]; prints what it got as JSON.
import { Ollama } from "ollama";

const [host, model, embedder] = process.argv.slice(2);
const client = new Ollama({ host });
const messages = [{ role: "user", content: "What is Y26HKX?" }];
const options = { temperature: 0 };

const plain = await client.chat({ model, messages, options });
let streamed = "";
for await (const part of await client.chat({ model, messages, options, stream: true })) {
  streamed += part.message.content;
}
const { embeddings } = await client.embed({ model: embedder, input: ["a", "b"] });
const { models } = await client.list();
const refused = await client
  .chat({ model: "nobody", messages })
  .catch((error) => ({ name: error.name, status: error.status_code }));
console.log(
  JSON.stringify({
    plain: plain.message.content,
    streamed,
    dimensions: embeddings.map((row) => row.length),
    models: models.map(({ model }) => model),
    refused,
  }),
);
