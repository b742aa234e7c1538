/** The conversation with a model. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { t } from "../i18n";
import { Button } from "../shell/controls";
import { CodeDialog } from "./code-dialog";
import { Composer } from "./composer";
import { openCalls, shownBranch } from "./conversation";
import { MessageView } from "./message-view";
import { chatModels, defaultModel, refreshModels } from "./models";
import { OptionsPanel } from "./options-panel";
import { PendingCalls } from "./pending-calls";
import { current, run, say, setOptions } from "./state";

const NEAR_PX = 80;

export function ChatPanel() {
  const [hasOptions, setHasOptions] = useState(false);
  const [hasCode, setHasCode] = useState(false);
  useEffect(() => {
    void refreshModels();
    const refresh = () => void refreshModels();
    window.addEventListener("focus", refresh);
    return () => window.removeEventListener("focus", refresh);
  }, []);
  return (
    <div class="chat">
      <div class="chat-main">
        <header class="panel-head">
          <h1 class="unseen">{current.value.title || t("chat.untitled")}</h1>
          <ModelChoice />
          <Button icon="code" label={t("chat.showCode")} onClick={() => setHasCode(true)} />
          <Button
            icon="options"
            label={t("chat.options")}
            expanded={hasOptions}
            onClick={() => setHasOptions(!hasOptions)}
          />
        </header>
        <Messages />
        <Composer />
      </div>
      {hasOptions && <OptionsPanel onClose={() => setHasOptions(false)} />}
      {hasCode && <CodeDialog onClose={() => setHasCode(false)} />}
    </div>
  );
}

function ModelChoice() {
  const chosen = current.value.options.model;
  const models = chatModels.value;
  return (
    <label class="model-choice">
      <span class="unseen">{t("chat.model")}</span>
      <select value={chosen} onChange={(event) => setOptions({ model: event.currentTarget.value })}>
        <option value="">{defaultModel.value || t("chat.noModel")}</option>
        {models
          .filter((model) => model.id !== defaultModel.value)
          .map((model) => (
            <option
              key={model.id}
              value={model.id}
              disabled={Boolean(model.failure) && model.state === "unloaded"}
            >
              {model.id}
            </option>
          ))}
        {chosen && !models.some((model) => model.id === chosen) && <option value={chosen}>{chosen}</option>}
      </select>
    </label>
  );
}

function Messages() {
  const branch = shownBranch(current.value);
  const scroller = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  useLayoutEffect(() => {
    follows.current = true;
  }, [current.value.id, branch.length]);
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box && follows.current) box.scrollTop = box.scrollHeight;
  });
  const onScroll = () => {
    const box = scroller.current!;
    follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
  };
  const calls = run.value ? [] : openCalls(branch);
  return (
    <div
      class="messages"
      ref={scroller}
      onScroll={onScroll}
      tabIndex={0}
      aria-label={t("chat.messages")}
      role="log"
      aria-busy={run.value !== null}
    >
      {branch.length === 0 && <Welcome />}
      {branch.map((message) => (
        <MessageView key={message.id} message={message} isLast={message.id === current.value.leaf} />
      ))}
      {calls.length > 0 && <PendingCalls calls={calls} />}
    </div>
  );
}

function Welcome() {
  const isGuide = /guide/.test(current.value.options.model || defaultModel.value);
  return (
    <div class="welcome">
      <h2>{t("chat.empty")}</h2>
      {isGuide && (
        <>
          <p>{t("chat.emptyGuide")}</p>
          <div class="row">
            {t("chat.guideQuestions")
              .split("\n")
              .map((question) => (
                <Button key={question} label={question} onClick={() => void say(question)} />
              ))}
          </div>
        </>
      )}
    </div>
  );
}
