/** Texts as vectors: how similar they are, and which document answers a query best. */
import { useEffect, useState } from "preact/hooks";

import { t } from "../i18n";
import { json } from "../server/client";
import type { ApiError } from "../server/errors";
import type { Model } from "../server/types";
import { ErrorNote } from "../shell/controls";
import { Comparison } from "./comparison";
import { Ranking } from "./ranking";

export function EmbeddingsPanel() {
  const [models, setModels] = useState<Model[] | null>(null);
  const [model, setModel] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    json<{ data: Model[] }>("/v1/models").then(
      ({ data }) => setModels(data.filter((one) => one.capability === "embed")),
      setError,
    );
  }, []);
  if (!models) return <div class="panel">{error ? <ErrorNote error={error} /> : t("loading")}</div>;
  const chosen = model || models.find((one) => one.is_default)?.id || models[0]?.id || "";
  return (
    <div class="panel">
      <h1>{t("embed.title")}</h1>
      {models.length === 0 ? (
        <p>{t("embed.noModel")}</p>
      ) : (
        <>
          <label class="narrow">
            {t("embed.model")}
            <select value={chosen} onChange={(event) => setModel(event.currentTarget.value)}>
              {models.map(({ id }) => (
                <option key={id} value={id}>
                  {id}
                </option>
              ))}
            </select>
          </label>
          <Comparison model={chosen} />
          <Ranking model={chosen} />
        </>
      )}
    </div>
  );
}
