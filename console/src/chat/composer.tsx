/** Where a message is written, with files beside it. */
import { useEffect, useRef, useState } from "preact/hooks";

import { t } from "../i18n";
import { Button } from "../shell/controls";
import { readTexts } from "./attachments";
import type { FileText } from "./conversation";
import { jsonFault } from "./request";
import { current, run, say, stop } from "./state";

export function Composer() {
  const [text, setText] = useState("");
  const [files, setFiles] = useState<FileText[]>([]);
  const [faults, setFaults] = useState<string[]>([]);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => area.current?.focus(), [current.value.id]);
  useEffect(() => {
    const box = area.current!;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text]);

  const { schema, tools } = current.value.options;
  const isReady =
    !run.value && !jsonFault(schema) && !jsonFault(tools) && Boolean(text.trim() || files.length);
  const send = () => {
    if (!isReady) return;
    void say(text.trim(), files);
    setText("");
    setFiles([]);
    setFaults([]);
  };
  const attach = async (chosen: Iterable<File>) => {
    const [texts, faults] = await readTexts(chosen);
    setFiles((files) => [...files, ...texts]);
    setFaults(faults);
  };
  const onPaste = (event: ClipboardEvent) => {
    const pasted = event.clipboardData!;
    // Office programs put a picture of a copied text beside it.
    if (!pasted.files.length || pasted.types.includes("text/plain")) return;
    event.preventDefault();
    void attach(pasted.files);
  };
  const onDrop = (event: DragEvent) => {
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    void attach(event.dataTransfer.files);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    // While a Chinese word is being composed, Enter takes the word.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape") stop();
  };
  return (
    <form
      class="composer"
      onDragOver={(event) => event.preventDefault()}
      onDrop={onDrop}
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {faults.map((fault) => (
        <p key={fault} class="small danger-text" role="alert">
          {fault}
        </p>
      ))}
      {files.length > 0 && <Files files={files} onChange={setFiles} />}
      <textarea
        ref={area}
        rows={1}
        value={text}
        placeholder={t("chat.placeholder")}
        aria-label={t("chat.placeholder")}
        aria-describedby="composer-hint"
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={onKeyDown}
        onPaste={onPaste}
      />
      <div class="row">
        <FileChoice onChoose={(chosen) => void attach(chosen)} />
        <span id="composer-hint" class="small hint">
          {t("chat.hint")}
        </span>
        {run.value ? (
          <Button icon="stop" kind="primary" label={t("chat.stop")} onClick={stop} />
        ) : (
          <Button submits icon="send" kind="primary" label={t("chat.send")} disabled={!isReady} />
        )}
      </div>
    </form>
  );
}

function FileChoice({ onChoose }: { onChoose: (chosen: FileList) => void }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        onChange={(event) => {
          if (event.currentTarget.files) onChoose(event.currentTarget.files);
          event.currentTarget.value = "";
        }}
      />
      <Button compact icon="clip" label={t("chat.attach")} onClick={() => input.current?.click()} />
    </>
  );
}

function Files({ files, onChange }: { files: FileText[]; onChange: (files: FileText[]) => void }) {
  return (
    <ul class="chips">
      {files.map((file) => (
        <li key={file.name} class="chip">
          {file.name}
          <Button
            compact
            icon="close"
            label={t("chat.removeFile", { name: file.name })}
            onClick={() => onChange(files.filter((other) => other !== file))}
          />
        </li>
      ))}
    </ul>
  );
}
