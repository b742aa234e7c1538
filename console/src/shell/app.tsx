/** The page: navigation at the side, one panel beside it. */
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { lazy, Suspense } from "preact/compat";
import { useEffect, useState } from "preact/hooks";

import { ChatPanel } from "../chat/chat-panel";
import { ConversationList } from "../chat/conversation-list";
import { LANGUAGES, language, type Language, t, tOf } from "../i18n";
import { ApiError } from "../server/errors";
import { forgetKey, key } from "../server/key";
import { Button, ErrorNote } from "./controls";
import { Icon, type IconName } from "./icons";
import { KeyDialog } from "./key-dialog";
import { THEMES, theme, type Theme } from "./theme";

const PANELS = {
  chat: ChatPanel,
  models: later(() => import("../models/models-panel").then((found) => found.ModelsPanel)),
  live: later(() => import("../live/live-panel").then((found) => found.LivePanel)),
  embeddings: later(() => import("../embeddings/embeddings-panel").then((found) => found.EmbeddingsPanel)),
  health: later(() => import("../health/health-panel").then((found) => found.HealthPanel)),
  reference: later(() => import("../reference/reference-panel").then((found) => found.ReferencePanel)),
} satisfies Record<string, ComponentType>;

/** A panel that comes when it is first shown; not at all if the server is gone or was updated. */
function later(load: () => Promise<ComponentType>): ComponentType {
  return lazy(() => load().catch(() => Missing));
}

function Missing() {
  return (
    <div class="panel">
      <ErrorNote error={new ApiError(t("error.network"), 0)} onRetry={() => location.reload()} />
    </div>
  );
}

type PanelName = keyof typeof PANELS & IconName;

/** The panel that the address names: `#/models`. */
const shown = signal<PanelName>(named(location.hash));
window.addEventListener("hashchange", () => (shown.value = named(location.hash)));

function named(hash: string): PanelName {
  const name = hash.replace(/^#\//, "");
  return name in PANELS ? (name as PanelName) : "chat";
}

export function App() {
  const [isOpen, setIsOpen] = useState(false);
  const Panel = PANELS[shown.value];
  useEffect(() => {
    document.title = `${tOf("nav", shown.value)} – Y26HKX`;
  }, [shown.value, language.value]);
  return (
    <>
      <a class="skip" href="#content" onClick={skip}>
        {t("nav.skip")}
      </a>
      <div class="page">
        <header class="top">
          <Button
            compact
            icon="menu"
            label={t("nav.menu")}
            expanded={isOpen}
            onClick={() => setIsOpen(!isOpen)}
          />
          <strong>{tOf("nav", shown.value)}</strong>
        </header>
        <Side isOpen={isOpen} onClose={() => setIsOpen(false)} />
        {isOpen && <div class="shade" onClick={() => setIsOpen(false)} />}
        <main id="content" tabIndex={-1}>
          <Suspense fallback={<p class="panel">{t("loading")}</p>}>
            <Panel />
          </Suspense>
        </main>
      </div>
      <KeyDialog />
    </>
  );
}

function skip(event: Event): void {
  // The address keeps the name of the panel.
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function Side({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  return (
    <aside
      class={`side ${isOpen ? "is-open" : ""}`}
      aria-label="Y26HKX"
      onKeyDown={(event) => event.key === "Escape" && onClose()}
    >
      <div class="brand">Y26HKX</div>
      <nav aria-label={t("nav.label")}>
        <ul>
          {(Object.keys(PANELS) as PanelName[]).map((name) => (
            <li key={name}>
              <a
                href={`#/${name}`}
                aria-current={name === shown.value ? "page" : undefined}
                onClick={onClose}
              >
                <Icon name={name} />
                {tOf("nav", name)}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      {shown.value === "chat" ? <ConversationList onChoose={onClose} /> : <div class="filler" />}
      <Preferences />
    </aside>
  );
}

function Preferences() {
  return (
    <div class="preferences">
      {key.value && <Button icon="key" label={t("key.forget")} onClick={forgetKey} />}
      <label>
        <span class="unseen">{t("nav.language")}</span>
        <select
          value={language.value}
          onChange={(event) => (language.value = event.currentTarget.value as Language)}
        >
          {Object.entries(LANGUAGES).map(([tag, name]) => (
            <option key={tag} value={tag} lang={tag}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span class="unseen">{t("nav.theme")}</span>
        <select value={theme.value} onChange={(event) => (theme.value = event.currentTarget.value as Theme)}>
          {THEMES.map((name) => (
            <option key={name} value={name}>
              {tOf("theme", name)}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
