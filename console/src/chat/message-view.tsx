/** One message with what belongs to it: thinking, calls, files, figures, branches, actions. */
import { useState } from "preact/hooks";

import { number, seconds, t } from "../i18n";
import { Button, CopyButton, Failure } from "../shell/controls";
import { Icon } from "../shell/icons";
import { type Figures, type Message, siblings } from "./conversation";
import { CodeBlock, Markdown } from "./markdown-view";
import { current, edit, goOn, regenerate, run, showBranch } from "./state";

export function MessageView({ message, isLast }: { message: Message; isLast: boolean }) {
  const [isEdited, setIsEdited] = useState(false);
  const isRunning = run.value?.messageId === message.id;
  return (
    <article class={`message ${message.role}`} aria-label={nameOf(message)}>
      {message.role !== "user" && <h2 class="message-name">{nameOf(message)}</h2>}
      {isEdited ? (
        <Editor message={message} onEnd={() => setIsEdited(false)} />
      ) : (
        <div class="message-body">
          <Content message={message} isRunning={isRunning} />
        </div>
      )}
      {isRunning && !message.text && !message.reasoning && (
        <p class="waiting">{run.value?.progress || t("chat.waiting")}</p>
      )}
      {message.failure && (
        <Failure {...message.failure} {...(isLast ? { onRetry: () => void regenerate(message) } : {})} />
      )}
      {message.figures && !isRunning && <Notes figures={message.figures} />}
      {!isRunning && !isEdited && (
        <footer>
          <Branches message={message} />
          <Actions message={message} isLast={isLast} onEdit={() => setIsEdited(true)} />
          {message.figures && <FigureLine figures={message.figures} />}
        </footer>
      )}
    </article>
  );
}

function nameOf(message: Message): string {
  if (message.role === "user") return t("chat.you");
  if (message.role === "tool") return t("chat.callResult", { name: message.call?.name ?? "" });
  return message.figures?.model ?? t("chat.assistant");
}

function Content({ message, isRunning }: { message: Message; isRunning: boolean }) {
  return (
    <>
      {message.files?.map((file) => (
        <details key={file.name} class="fold">
          <summary>
            <Icon name="clip" /> {file.name}
          </summary>
          <CodeBlock text={file.text} name={file.name} />
        </details>
      ))}
      {message.reasoning && (
        <details class="fold" open={isRunning && !message.text}>
          <summary>{t("chat.thinking")}</summary>
          <Markdown text={message.reasoning} />
        </details>
      )}
      {message.text &&
        (message.role === "assistant" ? (
          <Markdown text={message.text} />
        ) : (
          <div class="plain-text">{message.text}</div>
        ))}
      {message.calls?.map((call) => (
        <details key={call.id} class="fold">
          <summary>{t("chat.call", { name: call.name })}</summary>
          <CodeBlock text={indented(call.arguments)} name="json" />
        </details>
      ))}
    </>
  );
}

function indented(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    // It grows, or the model wrote something else.
    return json;
  }
}

function Editor({ message, onEnd }: { message: Message; onEnd: () => void }) {
  const [text, setText] = useState(message.text);
  const send = () => {
    onEnd();
    void edit(message, text);
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        aria-label={t("chat.edit")}
        value={text}
        rows={Math.min(12, text.split("\n").length + 1)}
        autoFocus
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Escape" && onEnd()}
      />
      <div class="row">
        <Button submits kind="primary" label={t("chat.editSend")} disabled={!text.trim()} />
        <Button label={t("action.cancel")} onClick={onEnd} />
      </div>
    </form>
  );
}

function Branches({ message }: { message: Message }) {
  const all = siblings(current.value, message);
  if (all.length < 2) return null;
  const place = all.findIndex((one) => one.id === message.id);
  const go = (to: number) => showBranch(all[to]!);
  return (
    <span class="branches">
      <Button
        compact
        icon="left"
        label={t("chat.previous")}
        disabled={place === 0}
        onClick={() => go(place - 1)}
      />
      <span aria-label={t("chat.branch", { n: place + 1, all: all.length })} role="img">
        {place + 1}/{all.length}
      </span>
      <Button
        compact
        icon="right"
        label={t("chat.next")}
        disabled={place === all.length - 1}
        onClick={() => go(place + 1)}
      />
    </span>
  );
}

interface ActionsProps {
  message: Message;
  isLast: boolean;
  onEdit: () => void;
}

function Actions({ message, isLast, onEdit }: ActionsProps) {
  const isBusy = run.value !== null;
  const end = message.figures?.end;
  return (
    <span class="actions">
      <CopyButton text={message.text} />
      {message.role === "user" && (
        <Button compact icon="edit" label={t("chat.edit")} disabled={isBusy} onClick={onEdit} />
      )}
      {message.role === "assistant" && (
        <Button
          compact
          icon="again"
          label={t("chat.regenerate")}
          disabled={isBusy}
          onClick={() => void regenerate(message)}
        />
      )}
      {isLast && message.text && (end === "length" || end === "stopped") && (
        <Button label={t("chat.continue")} disabled={isBusy} onClick={() => void goOn()} />
      )}
    </span>
  );
}

function FigureLine({ figures }: { figures: Figures }) {
  const parts = [
    figures.tokens !== undefined && t("chat.tokens", { n: number(figures.tokens) }),
    figures.tokensPerSecond !== undefined && t("chat.rate", { n: number(figures.tokensPerSecond, 1) }),
    figures.firstSeconds !== undefined && t("chat.first", { n: seconds(figures.firstSeconds) }),
    figures.promptTokens !== undefined && t("chat.prompt", { n: number(figures.promptTokens) }),
    figures.cachedTokens ? t("chat.cached", { n: number(figures.cachedTokens) }) : false,
    figures.end === "length" && t("chat.length"),
    figures.end === "stopped" && t("chat.stopped"),
  ];
  return <span class="figures">{parts.filter(Boolean).join(" · ")}</span>;
}

/** What the server did with the request that the reader did not ask for. */
function Notes({ figures }: { figures: Figures }) {
  const notes = [
    figures.trimmedTokens && t("chat.trimmed", { n: number(figures.trimmedTokens) }),
    figures.reduced?.length && t("chat.reduced", { what: figures.reduced.join("; ") }),
    figures.ignored && t("chat.ignored", { what: figures.ignored }),
  ].filter(Boolean);
  if (!notes.length) return null;
  return (
    <div class="note warning">
      {notes.map((note) => (
        <p key={note}>{note}</p>
      ))}
    </div>
  );
}
