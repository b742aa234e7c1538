/** The keys with rights, for admins, and what keys have used in the last 30 days. */
import { number, t, tOf } from "../i18n";
import { usePolled } from "../server/polling";
import type { Key, Listed, Used } from "../server/types";
import { Table } from "../shell/controls";
import { limitsOf, sumsOf } from "./usage";

const INTERVAL_MS = 30_000;
const MS = 1000;

/** Shows what the page's key may see: nothing where there are no keys and nothing was counted. */
export function KeysSection() {
  const keys = usePolled<Listed<Key>>("/v1/admin/keys", INTERVAL_MS);
  const used = usePolled<Listed<Used>>("/v1/usage", INTERVAL_MS);
  return (
    <>
      {!!keys.value?.data.length && <Keys keys={keys.value.data} />}
      {!!used.value?.data.length && <Usage rows={used.value.data} />}
    </>
  );
}

function Keys({ keys }: { keys: Key[] }) {
  return (
    <section>
      <h2>{t("keys.title")}</h2>
      <Table label={t("keys.title")}>
        <thead>
          <tr>
            <th>{t("keys.key")}</th>
            <th>{t("nav.models")}</th>
            <th>{t("keys.limits")}</th>
            <th>{t("keys.expires")}</th>
          </tr>
        </thead>
        <tbody>
          {keys.map((key) => (
            <tr key={key.id}>
              <th scope="row">
                {key.alias || <code>{key.id}</code>}{" "}
                {key.admin && <span class="small">{t("keys.admin")}</span>}
              </th>
              <td>{key.models ? key.models.join(", ") : t("keys.all")}</td>
              <td>{limitsOf(key).map(limitText).join("; ") || "–"}</td>
              <td>{key.expires_at ? new Date(key.expires_at * MS).toLocaleDateString() : "–"}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </section>
  );
}

function limitText([kind, name, most]: ReturnType<typeof limitsOf>[number]): string {
  const text = `${number(most)} ${tOf("limit", name)}`;
  return kind === "embeddings" ? `${t("nav.embeddings")}: ${text}` : text;
}

function Usage({ rows }: { rows: Used[] }) {
  return (
    <section>
      <h2>{t("keys.usage")}</h2>
      <Table label={t("keys.usage")}>
        <thead>
          <tr>
            <th>{t("keys.key")}</th>
            <th>{t("models.name")}</th>
            <th class="right">{t("keys.requests")}</th>
            <th class="right">{t("keys.promptTokens")}</th>
            <th class="right">{t("keys.completionTokens")}</th>
          </tr>
        </thead>
        <tbody>
          {sumsOf(rows).map((sum) => (
            <tr key={`${sum.key} ${sum.model}`}>
              <th scope="row">{sum.alias || sum.key || "–"}</th>
              <td>{sum.model}</td>
              <td class="right">{number(sum.requests)}</td>
              <td class="right">{number(sum.prompt_tokens)}</td>
              <td class="right">{number(sum.completion_tokens)}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </section>
  );
}
