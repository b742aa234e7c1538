/** The API of this server, from its own description. */
import { useEffect, useState } from "preact/hooks";

import { t } from "../i18n";
import { json } from "../server/client";
import type { ApiError } from "../server/errors";
import { ErrorNote, Table } from "../shell/controls";
import { type Document, type Operation, operationsOf } from "./openapi";
import { Trial } from "./trial";

export function ReferencePanel() {
  const [document, setDocument] = useState<Document | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [search, setSearch] = useState("");
  useEffect(() => void json<Document>("/openapi.json").then(setDocument, setError), []);
  if (!document) return <div class="panel">{error ? <ErrorNote error={error} /> : t("loading")}</div>;
  const found = operationsOf(document).filter((one) => one.path.includes(search.trim()));
  return (
    <div class="panel">
      <h1>{t("reference.title")}</h1>
      <p class="small">{t("reference.note")}</p>
      <label class="narrow">
        {t("reference.search")}
        <input type="search" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
      </label>
      {found.length === 0 && <p>{t("reference.none")}</p>}
      <div class="operations">
        {found.map((operation) => (
          <OperationView key={operation.method + operation.path} operation={operation} />
        ))}
      </div>
    </div>
  );
}

function OperationView({ operation }: { operation: Operation }) {
  const [isOpen, setIsOpen] = useState(false);
  return (
    <details class="operation" onToggle={(event) => setIsOpen(event.currentTarget.open)}>
      <summary>
        <span class={`method ${operation.method}`}>{operation.method}</span> <code>{operation.path}</code>{" "}
        <span class="small">{operation.about.split(/\.\s|\n\n/, 1)[0]}</span>
      </summary>
      {isOpen && (
        <>
          <p>{operation.about}</p>
          {operation.fields.length > 0 && <Fields operation={operation} />}
          <Answers operation={operation} />
          <Trial operation={operation} />
        </>
      )}
    </details>
  );
}

function Fields({ operation }: { operation: Operation }) {
  return (
    <>
      <h2>{t("reference.fields")}</h2>
      <Table label={t("reference.fields")}>
        <thead>
          <tr>
            <th>{t("reference.field")}</th>
            <th>{t("reference.type")}</th>
            <th>{t("reference.about")}</th>
          </tr>
        </thead>
        <tbody>
          {operation.fields.map((field) => (
            <tr key={field.name}>
              <th scope="row">
                <code>{field.name}</code>{" "}
                {field.isRequired && <span class="small">{t("reference.required")}</span>}
              </th>
              <td>{field.type}</td>
              <td>{field.about}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </>
  );
}

function Answers({ operation }: { operation: Operation }) {
  return (
    <>
      <h2>{t("reference.answers")}</h2>
      <Table label={t("reference.answers")}>
        <thead>
          <tr>
            <th>{t("reference.status")}</th>
            <th>{t("reference.codes")}</th>
            <th>{t("reference.type")}</th>
          </tr>
        </thead>
        <tbody>
          {operation.answers.map((answer) => (
            <tr key={answer.status}>
              <th scope="row">{answer.status}</th>
              <td>{answer.about}</td>
              <td>{answer.types.join(", ")}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </>
  );
}
