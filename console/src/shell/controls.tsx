/** Small parts that several panels have. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { t } from "../i18n";
import type { ApiError } from "../server/errors";
import { Icon, type IconName } from "./icons";

interface ButtonProps {
  label: string;
  icon?: IconName;
  /** Show the icon only; the label is for screen readers and as a hint. */
  compact?: boolean;
  kind?: "primary" | "danger" | "plain" | "quiet";
  disabled?: boolean;
  pressed?: boolean;
  expanded?: boolean;
  submits?: boolean;
  onClick?: () => void;
}

export function Button(props: ButtonProps) {
  const { label, icon, compact, kind = "plain" } = props;
  return (
    <button
      type={props.submits ? "submit" : "button"}
      class={`button ${kind} ${compact ? "compact" : ""}`}
      disabled={props.disabled}
      aria-pressed={props.pressed}
      aria-expanded={props.expanded}
      aria-label={compact ? label : undefined}
      title={compact ? label : undefined}
      onClick={props.onClick}
    >
      {icon && <Icon name={icon} />}
      {!compact && <span>{label}</span>}
    </button>
  );
}

export function CopyButton({ text, label = t("action.copy") }: { text: string; label?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    await copyText(text);
    setCopied(true);
  };
  const shown = copied ? t("action.copied") : label;
  return <Button compact icon={copied ? "check" : "copy"} label={shown} onClick={() => void copy()} />;
}

async function copyText(text: string): Promise<void> {
  // Pages that came over plain HTTP from another machine have no clipboard.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}

export function Dialog({ title, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-label={title} onClose={onClose}>
      <header>
        <h2>{title}</h2>
        <Button compact icon="close" label={t("action.close")} onClick={() => dialog.current?.close()} />
      </header>
      {children}
    </dialog>
  );
}

export function ErrorNote({ error, onRetry }: { error: ApiError; onRetry?: () => void }) {
  return (
    <Failure
      message={error.status === 403 ? `${t("error.forbidden")} ${error.message}` : error.message}
      suggestions={error.suggestions}
      requestId={error.requestId}
      {...(onRetry ? { onRetry } : {})}
    />
  );
}

interface FailureProps {
  message: string;
  suggestions: readonly string[];
  requestId: string;
  onRetry?: () => void;
}

export function Failure({ message, suggestions, requestId, onRetry }: FailureProps) {
  return (
    <div class="note error" role="alert">
      <p>{message}</p>
      {suggestions.length > 0 && (
        <ul>
          {suggestions.map((suggestion) => (
            <li key={suggestion}>{suggestion}</li>
          ))}
        </ul>
      )}
      {requestId && <p class="small">{t("error.request", { id: requestId })}</p>}
      {onRetry && <Button icon="again" label={t("action.retry")} onClick={onRetry} />}
    </div>
  );
}

/** A table that scrolls by itself where the window is narrow. */
export function Table({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div class="table" role="region" aria-label={label} tabIndex={0}>
      <table>{children}</table>
    </div>
  );
}
