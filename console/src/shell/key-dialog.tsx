/** Asks for the API key when the server wants one. */
import { useState } from "preact/hooks";

import { t } from "../i18n";
import { asking, giveKey, refuseKey } from "../server/key";
import { Button, Dialog } from "./controls";

export function KeyDialog() {
  return asking.value === "no" ? null : <Question isAgain={asking.value === "again"} />;
}

function Question({ isAgain }: { isAgain: boolean }) {
  const [given, setGiven] = useState("");
  return (
    <Dialog title={t("key.title")} onClose={refuseKey}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          giveKey(given);
        }}
      >
        {isAgain && (
          <p class="danger-text" role="alert">
            {t("key.wrong")}
          </p>
        )}
        <label>
          {t("key.label")}
          <input
            type="password"
            autocomplete="off"
            autoFocus
            value={given}
            onInput={(event) => setGiven(event.currentTarget.value)}
          />
        </label>
        <p class="small">{t("key.why")}</p>
        <div class="row">
          <Button submits kind="primary" label={t("key.use")} disabled={!given.trim()} />
          <Button label={t("action.cancel")} onClick={refuseKey} />
        </div>
      </form>
    </Dialog>
  );
}
