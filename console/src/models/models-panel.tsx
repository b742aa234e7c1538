/** The models of this machine, the memory they take, and what is done with them. */
import { bytes, number, seconds, t, tOf } from "../i18n";
import { usePolled } from "../server/polling";
import type { Detailed, Model } from "../server/types";
import { Button, ErrorNote, Table } from "../shell/controls";
import { doing, failed, load, pin, rescan, said, unload, unpin } from "./actions";
import { DeleteButton } from "./delete-button";
import { FitPlan } from "./fit-plan";
import { MemoryBar } from "./memory-bar";
import { PullSection } from "./pull-section";

const INTERVAL_MS = 2000;
const LOADED = new Set(["ready", "draining"]);

export function ModelsPanel() {
  const { value, error, refresh } = usePolled<Detailed>("/health/detailed", INTERVAL_MS);
  if (!value)
    return <div class="panel">{error ? <ErrorNote error={error} onRetry={refresh} /> : t("loading")}</div>;
  const models = Object.values(value.models.all);
  const after = (action: Promise<void>) => void action.then(refresh);
  return (
    <div class="panel">
      <h1>{t("models.title")}</h1>
      {error && <ErrorNote error={error} />}
      <MemoryBar memory={value.memory} models={models} />
      <section>
        <header class="section-head">
          <h2>{t("models.list")}</h2>
          <Button
            icon="again"
            label={t("models.rescan")}
            disabled={"" in doing.value}
            onClick={() => after(rescan())}
          />
        </header>
        <div role="status" class="small">
          {said.value}
        </div>
        {failed.value && <ErrorNote error={failed.value} />}
        {models.length ? <ModelTable models={models} after={after} /> : <p>{t("models.none")}</p>}
      </section>
      <FitPlan memory={value.memory} models={models} />
      <PullSection onChange={refresh} />
    </div>
  );
}

interface TableProps {
  models: Model[];
  after: (action: Promise<void>) => void;
}

function ModelTable({ models, after }: TableProps) {
  return (
    <Table label={t("models.list")}>
      <thead>
        <tr>
          <th>{t("models.name")}</th>
          <th>{t("models.state")}</th>
          <th class="right">{t("models.size")}</th>
          <th class="right">{t("models.context")}</th>
          <th class="right">{t("models.inMemory")}</th>
          <th>{t("models.until")}</th>
          <th>{t("models.actions")}</th>
        </tr>
      </thead>
      <tbody>
        {models.map((model) => (
          <Row key={model.id} model={model} after={after} />
        ))}
      </tbody>
    </Table>
  );
}

function Row({ model, after }: { model: Model; after: TableProps["after"] }) {
  const { failure, reductions = [] } = model;
  return (
    <tr>
      <th scope="row">
        <span class="model-id">{model.id}</span>{" "}
        <span class="small">
          {[tOf("models", model.capability), model.backend, model.is_default && t("models.default")]
            .filter(Boolean)
            .join(" · ")}
        </span>
        {failure && <p class="small danger-text">{t("models.failure", { why: failure })}</p>}
        {reductions.length > 0 && (
          <p class="small warning-text">{t("chat.reduced", { what: reductions.join("; ") })}</p>
        )}
        {model.served_by && (
          <p class="small warning-text">{t("chat.servedBy", { model: model.served_by })}</p>
        )}
      </th>
      <td>
        <span class={`state ${model.state}`}>{tOf("state", model.state)}</span>
        <div class="small">{doing.value[model.id] ?? progressOf(model)}</div>
      </td>
      <td class="right">{model.size_bytes ? bytes(model.size_bytes) : "–"}</td>
      <td class="right">{model.context_length ? number(model.context_length) : "–"}</td>
      <td class="right">{model.resident_bytes ? bytes(model.resident_bytes) : "–"}</td>
      <td class="whole">{staysOf(model)}</td>
      <td>
        <Actions model={model} after={after} />
      </td>
    </tr>
  );
}

function progressOf(model: Model): string {
  if (model.state !== "loading") return model.n_waiting ? t("models.waiting", { n: model.n_waiting }) : "";
  const percent = `${number((model.load_fraction ?? 0) * 100)} %`;
  return t("models.loadingAt", { stage: model.load_stage ?? "", percent });
}

function staysOf(model: Model): string {
  if (!LOADED.has(model.state)) return "–";
  if (model.n_leases) return t("models.inUse", { n: model.n_leases });
  if (model.pinned) return t("models.pinned");
  const left = model.expires_in_seconds;
  return left === null || left === undefined ? "–" : t("models.expires", { n: seconds(left) });
}

function Actions({ model, after }: { model: Model; after: TableProps["after"] }) {
  const isBusy = model.id in doing.value;
  if (!LOADED.has(model.state)) {
    return (
      <div class="row">
        <Button label={t("models.load")} disabled={isBusy} onClick={() => after(load(model.id))} />
        <DeleteButton model={model.id} isBusy={isBusy} after={after} />
      </div>
    );
  }
  return (
    <div class="row">
      <Button label={t("models.unload")} disabled={isBusy} onClick={() => after(unload(model.id))} />
      {model.pinned ? (
        <Button
          icon="pin"
          label={t("models.unpin")}
          disabled={isBusy}
          onClick={() => after(unpin(model.id))}
        />
      ) : (
        <Button icon="pin" label={t("models.pin")} disabled={isBusy} onClick={() => after(pin(model.id))} />
      )}
    </div>
  );
}
