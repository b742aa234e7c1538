/** Shows the conversation's next request as code. */
import { useState } from "preact/hooks";

import { t } from "../i18n";
import { Dialog } from "../shell/controls";
import { type CodeLanguage, codeOf, LANGUAGES } from "./code";
import { shownBranch } from "./conversation";
import { CodeBlock } from "./markdown-view";
import { defaultModel } from "./models";
import { type Body, bodyOf } from "./request";
import { current } from "./state";

export function CodeDialog({ onClose }: { onClose: () => void }) {
  const [language, setLanguage] = useState<CodeLanguage>("curl");
  return (
    <Dialog title={t("chat.codeTitle")} onClose={onClose}>
      <div class="tabs" role="group" aria-label={t("chat.codeTitle")}>
        {LANGUAGES.map((name) => (
          <button key={name} type="button" aria-pressed={name === language} onClick={() => setLanguage(name)}>
            {name}
          </button>
        ))}
      </div>
      <CodeBlock text={codeOf(language, bodyShown(), location.origin)} name={language} />
      <p class="small">{t("chat.codeNote")}</p>
    </Dialog>
  );
}

function bodyShown(): Body {
  const conversation = current.value;
  const branch = shownBranch(conversation);
  // A request ends with what the model is to answer.
  const end = branch.findLastIndex((message) => message.role !== "assistant");
  const messages = branch.slice(0, end + 1);
  const body = safeBody({ ...conversation, options: { ...conversation.options } }, messages);
  const asked = messages.length ? body : { ...body, messages: [{ role: "user", content: "…" }] };
  return body.model ? asked : { model: defaultModel.value, ...asked };
}

/** The body, without a schema or tools that are not JSON yet. */
function safeBody(...[conversation, messages]: Parameters<typeof bodyOf>): Body {
  try {
    return bodyOf(conversation, messages);
  } catch {
    return bodyOf({ ...conversation, options: { ...conversation.options, schema: "", tools: "" } }, messages);
  }
}
