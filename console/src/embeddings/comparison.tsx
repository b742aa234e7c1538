/** Texts in, a matrix of their similarities and the nearest neighbour of each out. */
import { useState } from "preact/hooks";

import { number, seconds, t } from "../i18n";
import { json } from "../server/client";
import type { ApiError } from "../server/errors";
import { Button, ErrorNote, Table } from "../shell/controls";
import { linesOf, matrixOf, neighboursOf } from "./similarity";

// A larger matrix could not be read.
const MOST_TEXTS = 24;

interface Result {
  texts: string[];
  matrix: number[][];
  dimension: number;
  seconds: number;
  isCut: boolean;
}

export function Comparison({ model }: { model: string }) {
  const [text, setText] = useState<string | null>(null);
  const [result, setResult] = useState<Result | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setIsBusy] = useState(false);
  // The example is in the reader's language until they write something.
  const shown = text ?? t("embed.example");
  const compare = async () => {
    setIsBusy(true);
    setError(null);
    try {
      setResult(await compared(model, linesOf(shown)));
    } catch (caught) {
      setError(caught as ApiError);
    }
    setIsBusy(false);
  };
  return (
    <section>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void compare();
        }}
      >
        <label>
          {t("embed.texts")}
          <textarea rows={5} value={shown} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <Button
          submits
          kind="primary"
          label={t("embed.compare")}
          disabled={isBusy || linesOf(shown).length < 1}
        />
      </form>
      {error && <ErrorNote error={error} />}
      {result && <Matrix result={result} />}
    </section>
  );
}

async function compared(model: string, lines: string[]): Promise<Result> {
  const texts = lines.slice(0, MOST_TEXTS);
  const began = performance.now();
  const reply = await json<{ data: { embedding: number[] }[] }>("/v1/embeddings", {
    body: { model, input: texts },
  });
  const took = (performance.now() - began) / 1000;
  const vectors = reply.data.map(({ embedding }) => embedding);
  const dimension = vectors[0]?.length ?? 0;
  return { texts, matrix: matrixOf(vectors), dimension, seconds: took, isCut: lines.length > texts.length };
}

function Matrix({ result }: { result: Result }) {
  const { texts, matrix } = result;
  const figures = { n: texts.length, d: result.dimension, t: seconds(result.seconds) };
  return (
    <div role="status">
      <p class="small">
        {t("embed.took", figures)} {result.isCut && t("embed.tooMany", { n: texts.length })}
      </p>
      <h2>{t("embed.matrix")}</h2>
      <Table label={t("embed.matrix")}>
        <thead>
          <tr>
            <td />
            {texts.map((_, place) => (
              <th key={place} class="right">
                {place + 1}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {matrix.map((row, place) => (
            <tr key={place}>
              <th scope="row" class="clipped" title={texts[place]}>
                {place + 1}. {texts[place]}
              </th>
              {row.map((similarity, at) => (
                <td key={at} class="right heat" style={{ "--heat": Math.max(0, similarity) }}>
                  {number(similarity, 2)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </Table>
      {texts.length > 1 && <Neighbours result={result} />}
    </div>
  );
}

function Neighbours({ result: { texts, matrix } }: { result: Result }) {
  return (
    <>
      <h2>{t("embed.neighbours")}</h2>
      <Table label={t("embed.neighbours")}>
        <thead>
          <tr>
            <th>{t("embed.text")}</th>
            <th>{t("embed.nearest")}</th>
            <th class="right">{t("embed.similarity")}</th>
          </tr>
        </thead>
        <tbody>
          {neighboursOf(matrix).map((nearest, place) => (
            <tr key={place}>
              <th scope="row">{texts[place]}</th>
              <td>{nearest && texts[nearest.place]}</td>
              <td class="right">{nearest && number(nearest.similarity, 2)}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </>
  );
}
