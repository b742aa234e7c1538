/** Sends a request of the reader's to the server, and shows the answer as it is. */
import { useState } from "preact/hooks";

import { CodeBlock } from "../chat/markdown-view";
import { jsonFault } from "../chat/request";
import { t } from "../i18n";
import { request } from "../server/client";
import type { ApiError } from "../server/errors";
import { Button } from "../shell/controls";
import type { Operation } from "./openapi";

const MOST_SHOWN = 20_000;

export function Trial({ operation }: { operation: Operation }) {
  const [path, setPath] = useState(operation.path);
  const [body, setBody] = useState("{}");
  const [answer, setAnswer] = useState("");
  const fault = operation.hasBody ? jsonFault(body) : "";
  const isWritten = operation.method === "GET" || operation.method === "POST";
  if (!isWritten) return null;
  const send = async () => {
    setAnswer(await answerTo(path, operation, body));
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <h2>{t("reference.try")}</h2>
      {operation.path.includes("{") && (
        <input
          type="text"
          aria-label={operation.path}
          value={path}
          onInput={(event) => setPath(event.currentTarget.value)}
        />
      )}
      {operation.hasBody && (
        <label>
          {t("reference.body")}
          <textarea
            class="mono"
            rows={6}
            spellcheck={false}
            value={body}
            onInput={(event) => setBody(event.currentTarget.value)}
          />
          {fault && <span class="small danger-text">{t("option.badJson", { why: fault })}</span>}
        </label>
      )}
      <Button submits label={t("reference.send")} disabled={Boolean(fault)} />
      {answer && <CodeBlock text={answer} name={t("reference.answer")} />}
    </form>
  );
}

async function answerTo(path: string, operation: Operation, body: string): Promise<string> {
  const sent = operation.method === "POST" ? { body: JSON.parse(body || "{}") as unknown } : {};
  try {
    const reply = await request(path, sent);
    return shown(`${reply.status}\n${await reply.text()}`);
  } catch (error) {
    const { status, code, message, suggestions } = error as ApiError;
    return shown([`${status} ${code}`, message, ...suggestions].join("\n"));
  }
}

function shown(text: string): string {
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text;
}
