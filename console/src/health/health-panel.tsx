/** What `/health/detailed` reports: warnings, services, workers, processes, settings; and keys. */
import { bytes, number, seconds, t, tOf } from "../i18n";
import { usePolled } from "../server/polling";
import type { Detailed, Memory, Process, Service, Setting, Worker } from "../server/types";
import { ErrorNote, Table } from "../shell/controls";
import { KeysSection } from "./keys-section";

const INTERVAL_MS = 3000;

export function HealthPanel() {
  const { value, error, refresh } = usePolled<Detailed>("/health/detailed", INTERVAL_MS);
  if (!value)
    return <div class="panel">{error ? <ErrorNote error={error} onRetry={refresh} /> : t("loading")}</div>;
  return (
    <div class="panel">
      <h1>{t("health.title")}</h1>
      {error && <ErrorNote error={error} />}
      <Warnings warnings={value.warnings} />
      {value.services && <Services services={value.services} />}
      <Workers workers={value.workers} />
      <MemoryFacts memory={value.memory} />
      <Processes processes={value.memory.processes} />
      <KeysSection />
      {value.settings && <Settings settings={value.settings} />}
      <p class="small">{t("health.doctor")}</p>
    </div>
  );
}

function Warnings({ warnings }: { warnings: string[] }) {
  if (!warnings.length) return <p class="note good">{t("health.healthy")}</p>;
  return (
    <div class="note warning" role="status">
      <ul>
        {warnings.map((warning) => (
          <li key={warning}>{tOf("warning", warning)}</li>
        ))}
      </ul>
    </div>
  );
}

function Services({ services }: { services: Record<string, Service> }) {
  return (
    <section>
      <h2>{t("health.services")}</h2>
      <Table label={t("health.services")}>
        <thead>
          <tr>
            <th>{t("health.service")}</th>
            <th>{t("health.state")}</th>
            <th class="right">{t("health.restarts")}</th>
            <th>{t("health.reason")}</th>
          </tr>
        </thead>
        <tbody>
          {Object.entries(services).map(([name, service]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{service.state.replaceAll("_", " ")}</td>
              <td class="right">{service.n_restarts}</td>
              <td>{service.reason}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </section>
  );
}

function Workers({ workers }: { workers: Record<string, Worker[]> }) {
  return (
    <section>
      <h2>{t("health.workers")}</h2>
      <Table label={t("health.workers")}>
        <thead>
          <tr>
            <th>{t("health.worker")}</th>
            <th>{t("health.address")}</th>
            <th>{t("health.state")}</th>
            <th class="right">{t("health.active")}</th>
            <th class="right">{t("health.queue")}</th>
            <th class="right">{t("health.uptime")}</th>
          </tr>
        </thead>
        <tbody>
          {Object.entries(workers).flatMap(([kind, all]) =>
            all.map((worker) => (
              <tr key={kind + worker.address}>
                <th scope="row">{kind}</th>
                <td>
                  <code>{worker.address}</code>
                </td>
                <td class={worker.serving ? "" : "danger-text"}>
                  {worker.serving ? t("health.serving") : t("health.notServing")}
                </td>
                <td class="right">{number(worker.n_active)}</td>
                <td class="right">{number(worker.queue_depth)}</td>
                <td class="right">{seconds(worker.uptime_seconds)}</td>
              </tr>
            )),
          )}
        </tbody>
      </Table>
    </section>
  );
}

function MemoryFacts({ memory }: { memory: Memory }) {
  const facts = [
    [t("health.available"), `${bytes(memory.available_bytes)} / ${bytes(memory.total_bytes)}`],
    [t("health.headroom"), bytes(memory.headroom_bytes)],
    [t("health.reserved"), bytes(memory.booked_bytes)],
    [t("health.pressure"), memory.pressure],
  ];
  return (
    <section>
      <h2>{t("health.memory")}</h2>
      <dl class="tiles">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Processes({ processes }: { processes: Process[] }) {
  return (
    <section>
      <h2>{t("health.processes")}</h2>
      <Table label={t("health.processes")}>
        <thead>
          <tr>
            <th>{t("health.process")}</th>
            <th>{t("models.name")}</th>
            <th class="right">{t("health.resident")}</th>
            <th class="right">{t("health.peak")}</th>
          </tr>
        </thead>
        <tbody>
          {processes.map((one, place) => (
            <tr key={place}>
              <th scope="row">{one.process.replaceAll("_", " ")}</th>
              <td>{one.model ?? "–"}</td>
              <td class="right">{bytes(one.resident_bytes)}</td>
              <td class="right">{one.peak_bytes ? bytes(one.peak_bytes) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </section>
  );
}

function Settings({ settings }: { settings: Record<string, Setting> }) {
  return (
    <section>
      <h2>{t("health.settings")}</h2>
      <Table label={t("health.settings")}>
        <thead>
          <tr>
            <th>{t("health.setting")}</th>
            <th>{t("health.value")}</th>
            <th>{t("health.origin")}</th>
          </tr>
        </thead>
        <tbody>
          {Object.entries(settings).map(([name, { value, origin, in_force: inForce }]) => (
            <tr key={name}>
              <th scope="row">
                <code>{name}</code>
              </th>
              <td>
                <code>{String(value ?? "–")}</code>{" "}
                {inForce !== undefined && inForce !== value && (
                  <span class="small">{t("health.inForce", { value: String(inForce) })}</span>
                )}
              </td>
              <td>{origin}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </section>
  );
}
