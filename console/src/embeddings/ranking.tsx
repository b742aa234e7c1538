/** Documents by their relevance to a query. */
import { useState } from "preact/hooks";

import { number, t } from "../i18n";
import { json } from "../server/client";
import type { ApiError } from "../server/errors";
import { Button, ErrorNote, Table } from "../shell/controls";
import { linesOf } from "./similarity";

interface Reply {
  results: { index: number; relevance_score: number }[];
  method?: string;
}

interface Result extends Reply {
  documents: string[];
}

export function Ranking({ model }: { model: string }) {
  const [query, setQuery] = useState<string | null>(null);
  const [text, setText] = useState<string | null>(null);
  const [result, setResult] = useState<Result | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setIsBusy] = useState(false);
  const asked = query ?? t("embed.exampleQuery");
  const shown = text ?? t("embed.exampleDocuments");
  const rank = async () => {
    setIsBusy(true);
    setError(null);
    const documents = linesOf(shown);
    try {
      const reply = await json<Reply>("/v1/rerank", { body: { model, query: asked, documents } });
      setResult({ ...reply, documents });
    } catch (caught) {
      setError(caught as ApiError);
    }
    setIsBusy(false);
  };
  return (
    <section>
      <h2>{t("embed.rerank")}</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void rank();
        }}
      >
        <label>
          {t("embed.query")}
          <input type="text" value={asked} onInput={(event) => setQuery(event.currentTarget.value)} />
        </label>
        <label>
          {t("embed.documents")}
          <textarea rows={4} value={shown} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <Button
          submits
          kind="primary"
          label={t("embed.rank")}
          disabled={isBusy || !asked.trim() || !shown.trim()}
        />
      </form>
      {error && <ErrorNote error={error} />}
      {result && <Ranked result={result} />}
    </section>
  );
}

function Ranked({ result }: { result: Result }) {
  return (
    <div role="status">
      {result.method && <p class="small">{t("embed.byMethod", { method: result.method })}</p>}
      <Table label={t("embed.rerank")}>
        <thead>
          <tr>
            <th class="right">#</th>
            <th>{t("embed.text")}</th>
            <th class="right">{t("embed.score")}</th>
          </tr>
        </thead>
        <tbody>
          {result.results.map(({ index, relevance_score }, place) => (
            <tr key={index}>
              <td class="right">{place + 1}</td>
              <td>{result.documents[index]}</td>
              <td class="right heat" style={{ "--heat": Math.max(0, Math.min(1, relevance_score)) }}>
                {number(relevance_score, 2)}
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
    </div>
  );
}
