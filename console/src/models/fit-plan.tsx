/** Says, before a load, whether a model fits and which others go for it. */
import { useState } from "preact/hooks";

import { bytes, seconds, t } from "../i18n";
import type { Memory, Model } from "../server/types";
import { frees, isBusy, type Plan, planFor } from "./memory";

export function FitPlan({ memory, models }: { memory: Memory; models: Model[] }) {
  const [chosen, setChosen] = useState("");
  const others = models.filter((model) => model.state === "unloaded" || model.state === "failed");
  const wanted = others.find((model) => model.id === chosen);
  return (
    <section>
      <h2>{t("models.fitTitle")}</h2>
      <label>
        {t("models.fitWhich")}
        <select value={chosen} onChange={(event) => setChosen(event.currentTarget.value)}>
          <option value="">{t("models.fitChoose")}</option>
          {others.map((model) => (
            <option key={model.id} value={model.id}>
              {model.id}
            </option>
          ))}
        </select>
      </label>
      {wanted && <Answer model={wanted} plan={planFor(wanted, memory, models)} />}
    </section>
  );
}

function Answer({ model, plan }: { model: Model; plan: Plan }) {
  const needs = { model: model.id, n: bytes(plan.needed) };
  return (
    <div class="fit" role="status">
      <p>{plan.isAtLeast ? t("models.fitNeedsAtLeast", needs) : t("models.fitNeeds", needs)}</p>
      <p class={plan.verdict === "not" ? "danger-text" : ""}>{verdictOf(plan)}</p>
      {plan.verdict !== "now" && (
        <ol>
          {plan.goes.map((one) => (
            <li key={one.id}>
              {one.id}{" "}
              <span class="small">
                {bytes(frees(one))} ·{" "}
                {isBusy(one)
                  ? t("models.fitBusy", { n: one.n_leases ?? 0 })
                  : t("models.fitIdle", { n: seconds(one.idle_seconds ?? 0) })}
              </span>
            </li>
          ))}
        </ol>
      )}
      {plan.verdict !== "now" && plan.pinned.length > 0 && (
        <p class="small">{t("models.fitPinned", { names: plan.pinned.map((one) => one.id).join(", ") })}</p>
      )}
    </div>
  );
}

function verdictOf(plan: Plan): string {
  const fields = { n: bytes(plan.free), all: bytes(plan.mostFree) };
  if (plan.verdict === "now") return t("models.fitsNow", fields);
  return plan.verdict === "after" ? t("models.fitsAfter", fields) : t("models.fitsNot", fields);
}
