/** What a conversation's requests ask for beside the messages. */
import { t, tOf } from "../i18n";
import { Button } from "../shell/controls";
import { DEFAULTS, type Options } from "./conversation";
import { jsonFault } from "./request";
import { current, setOptions } from "./state";

type NumberName = "temperature" | "top_p" | "top_k" | "min_p" | "repetition_penalty" | "max_tokens" | "seed";

const NUMBERS: Record<NumberName, { min: number; max?: number; step: number }> = {
  temperature: { min: 0, max: 2, step: 0.1 },
  top_p: { min: 0, max: 1, step: 0.05 },
  top_k: { min: 0, step: 1 },
  min_p: { min: 0, max: 1, step: 0.01 },
  repetition_penalty: { min: 0, max: 2, step: 0.05 },
  max_tokens: { min: 1, step: 1 },
  seed: { min: 0, step: 1 },
};

export function OptionsPanel({ onClose }: { onClose: () => void }) {
  const options = current.value.options;
  return (
    <aside class="options" aria-label={t("chat.options")}>
      <header>
        <h2>{t("chat.options")}</h2>
        <Button compact icon="close" label={t("action.close")} onClick={onClose} />
      </header>
      <TextOption name="system" rows={4} />
      <fieldset>
        <legend>{t("option.sampling")}</legend>
        <div class="grid">
          {(Object.keys(NUMBERS) as NumberName[]).map((name) => (
            <NumberOption key={name} name={name} />
          ))}
        </div>
      </fieldset>
      <TextOption name="stop" rows={2} />
      <label>
        {t("option.thinking")}
        <select
          value={options.thinking}
          onChange={(event) => setOptions({ thinking: event.currentTarget.value as Options["thinking"] })}
        >
          {(["auto", "on", "off"] as const).map((value) => (
            <option key={value} value={value}>
              {tOf("option.thinking", value)}
            </option>
          ))}
        </select>
      </label>
      <TextOption name="schema" rows={5} hint={t("option.schemaHint")} isJson />
      <TextOption name="tools" rows={5} hint={t("option.toolsHint")} isJson />
      <Button label={t("option.reset")} onClick={() => setOptions({ ...DEFAULTS, model: options.model })} />
    </aside>
  );
}

interface TextProps {
  name: "system" | "stop" | "schema" | "tools";
  rows: number;
  hint?: string;
  isJson?: boolean;
}

function TextOption({ name, rows, hint = "", isJson = false }: TextProps) {
  const value = current.value.options[name];
  const fault = isJson ? jsonFault(value) : "";
  return (
    <label>
      {tOf("option", name)}
      <textarea
        class={isJson ? "mono" : ""}
        rows={rows}
        spellcheck={!isJson}
        value={value}
        aria-invalid={Boolean(fault)}
        onInput={(event) => setOptions({ [name]: event.currentTarget.value })}
      />
      {(fault || hint) && (
        <span class={`small ${fault ? "danger-text" : ""}`}>
          {fault ? t("option.badJson", { why: fault }) : hint}
        </span>
      )}
    </label>
  );
}

function NumberOption({ name }: { name: NumberName }) {
  const value = current.value.options[name];
  return (
    <label>
      {tOf("option", name)}
      <input
        type="number"
        {...NUMBERS[name]}
        value={value ?? ""}
        placeholder={t("option.default")}
        onInput={(event) => {
          const given = event.currentTarget.valueAsNumber;
          setOptions({ [name]: Number.isNaN(given) ? null : given });
        }}
      />
    </label>
  );
}
