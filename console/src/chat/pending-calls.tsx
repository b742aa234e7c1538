/** Asks for the results of a model's calls: this page runs no tools. */
import { useState } from "preact/hooks";

import { t } from "../i18n";
import { Button } from "../shell/controls";
import type { Call } from "./conversation";
import { giveResult, goOn } from "./state";

export function PendingCalls({ calls }: { calls: Call[] }) {
  const [results, setResults] = useState<Record<string, string>>({});
  const send = () => {
    for (const call of calls) giveResult(call, results[call.id] ?? "");
    void goOn();
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {calls.map((call) => (
        <label key={call.id}>
          {t("chat.callResult", { name: call.name })}
          <textarea
            rows={2}
            value={results[call.id] ?? ""}
            onInput={(event) => setResults({ ...results, [call.id]: event.currentTarget.value })}
          />
        </label>
      ))}
      <div class="row">
        <Button submits kind="primary" label={t("chat.callAnswer")} />
      </div>
    </form>
  );
}
