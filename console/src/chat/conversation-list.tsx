/** The conversations of this browser, in the side bar. */
import { useState } from "preact/hooks";

import { t } from "../i18n";
import { Button, Dialog } from "../shell/controls";
import { begin, conversations, current, isKept, remove, show } from "./state";
import { MOST } from "./store";

export function ConversationList({ onChoose }: { onChoose: () => void }) {
  const [doomed, setDoomed] = useState<string[]>([]);
  const all = conversations.value;
  const choose = (action: () => void) => {
    action();
    onChoose();
  };
  return (
    <section class="conversations" aria-label={t("chat.conversations")}>
      <Button icon="plus" label={t("chat.new")} onClick={() => choose(begin)} />
      <ul>
        {all.map(({ id, title }) => (
          <li key={id} class={id === current.value.id ? "is-current" : ""}>
            <button
              type="button"
              class="conversation"
              aria-current={id === current.value.id}
              onClick={() => choose(() => show(id))}
            >
              {title || t("chat.untitled")}
            </button>
            <Button
              compact
              icon="trash"
              label={`${t("action.delete")}: ${title}`}
              onClick={() => setDoomed([id])}
            />
          </li>
        ))}
      </ul>
      <p class="small">{isKept.value ? t("chat.onlyHere", { n: MOST }) : t("chat.notKept")}</p>
      {all.length > 1 && (
        <Button
          kind="quiet"
          label={t("chat.deleteAll")}
          onClick={() => setDoomed(all.map((one) => one.id))}
        />
      )}
      {doomed.length > 0 && <Confirmation ids={doomed} onEnd={() => setDoomed([])} />}
    </section>
  );
}

function Confirmation({ ids, onEnd }: { ids: string[]; onEnd: () => void }) {
  const title = conversations.value.find((one) => one.id === ids[0])?.title ?? "";
  const question =
    ids.length === 1
      ? t("chat.confirmDelete", { title: title || t("chat.untitled") })
      : t("chat.confirmDeleteAll", { n: ids.length });
  return (
    <Dialog title={t("action.delete")} onClose={onEnd}>
      <p>{question}</p>
      <div class="row">
        <Button
          kind="danger"
          icon="trash"
          label={t("action.delete")}
          onClick={() => void remove(ids).then(onEnd)}
        />
        <Button label={t("action.cancel")} onClick={onEnd} />
      </div>
    </Dialog>
  );
}
