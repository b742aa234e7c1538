/** What runs and waits now, how fast, and what happened to the models. */
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";

import { bytes, number, seconds, t, time, tOf } from "../i18n";
import { json } from "../server/client";
import type { ApiError } from "../server/errors";
import { usePolled } from "../server/polling";
import type { Activity, Memory, ModelEvent, RunningRequest } from "../server/types";
import { Button, ErrorNote, Table } from "../shell/controls";
import { INTERVAL_MS, MINUTES, type Sample, sampleOf, type Seen, withSample } from "./history";
import { Plot } from "./plot";

// They outlive the panel, so that a look elsewhere loses nothing.
const history = signal<Sample[]>([]);
let before: Seen | null = null;
let memory: Memory | null = null;

function note({ totals }: Activity): void {
  const now = { at: Date.now() / 1000, totals };
  history.value = withSample(history.value, sampleOf(before, now, memory));
  before = now;
}

export function LivePanel() {
  const { value, error, refresh } = usePolled<Activity>("/health/activity", INTERVAL_MS, note);
  usePolled<Memory>("/health/memory", INTERVAL_MS, (found) => (memory = found));
  if (!value)
    return <div class="panel">{error ? <ErrorNote error={error} onRetry={refresh} /> : t("loading")}</div>;
  return (
    <div class="panel">
      <h1>{t("live.title")}</h1>
      {error && <ErrorNote error={error} />}
      <Tiles activity={value} />
      <section class="plots" aria-label={t("live.minutes", { n: MINUTES })}>
        <Plot title={t("live.plotRate")} field="tokensPerSecond" history={history.value} />
        <Plot title={t("live.plotFirst")} field="firstSeconds" history={history.value} digits={2} />
        <Plot title={t("live.plotMemory")} field="usedGib" history={history.value} digits={2} />
        <Plot title={t("live.plotHits")} field="cachedPercent" history={history.value} digits={0} />
      </section>
      <p class="small">{t("live.minutes", { n: MINUTES })}</p>
      <Requests requests={value.requests} onChange={refresh} />
      <Events events={value.events} />
    </div>
  );
}

function Tiles({ activity }: { activity: Activity }) {
  const latest = history.value.at(-1);
  const rate = latest?.tokensPerSecond ?? 0;
  const first = history.value.findLast((sample) => sample.firstSeconds !== null)?.firstSeconds;
  const tiles = [
    [t("live.running"), number(activity.n_running)],
    [t("live.waiting"), number(activity.n_waiting)],
    [t("live.rate"), number(rate, 1)],
    [t("live.first"), first === undefined || first === null ? "–" : seconds(first)],
    [t("live.used"), latest?.usedGib ? `${number(latest.usedGib, 1)} GiB` : "–"],
  ];
  return (
    <dl class="tiles">
      {tiles.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Requests({ requests, onChange }: { requests: RunningRequest[]; onChange: () => void }) {
  const [failed, setFailed] = useState<ApiError | null>(null);
  const cancel = async (id: string) => {
    setFailed(null);
    try {
      await json("/v1/requests/cancel", { body: { request_id: id } });
      onChange();
    } catch (error) {
      setFailed(error as ApiError);
    }
  };
  return (
    <section>
      <h2>{t("live.requests")}</h2>
      {failed && <ErrorNote error={failed} />}
      {requests.length === 0 ? (
        <p class="small">{t("live.noRequests")}</p>
      ) : (
        <Table label={t("live.requests")}>
          <thead>
            <tr>
              <th>{t("live.request")}</th>
              <th>{t("models.name")}</th>
              <th>{t("live.state")}</th>
              <th class="right">{t("live.since")}</th>
              <th class="right">{t("live.tokens")}</th>
              <th class="right">{t("live.rate")}</th>
              <th>{t("models.actions")}</th>
            </tr>
          </thead>
          <tbody>
            {requests.map((one, place) => (
              <tr key={`${one.request_id} ${place}`}>
                <th scope="row">
                  <code>{one.request_id}</code>
                </th>
                <td>{one.model}</td>
                <td>{stateOf(one)}</td>
                <td class="right">{seconds(one.seconds)}</td>
                <td class="right">{`${number(one.prompt_tokens)} + ${number(one.completion_tokens)}`}</td>
                <td class="right">
                  {one.tokens_per_second === null ? "–" : number(one.tokens_per_second, 1)}
                </td>
                <td>
                  <Button icon="close" label={t("live.stop")} onClick={() => void cancel(one.request_id)} />
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </section>
  );
}

function stateOf(one: RunningRequest): string {
  if (one.state === "running") {
    return one.completion_tokens ? t("live.stateRunning") : t("live.stateReading");
  }
  const wait = one.estimated_wait_seconds;
  const parts = [
    one.waits_for === "load"
      ? t("live.loading", { n: `${number((one.load_fraction ?? 0) * 100)} %` })
      : t("live.stateWaiting"),
    one.position ? t("live.place", { n: one.position }) : "",
    wait === null || wait === undefined ? "" : t("live.wait", { n: seconds(wait) }),
  ];
  return parts.filter(Boolean).join(", ");
}

function Events({ events }: { events: ModelEvent[] }) {
  return (
    <section>
      <h2>{t("live.events")}</h2>
      {events.length === 0 ? (
        <p class="small">{t("live.noEvents")}</p>
      ) : (
        <Table label={t("live.events")}>
          <thead>
            <tr>
              <th>{t("live.when")}</th>
              <th>{t("live.what")}</th>
              <th>{t("models.name")}</th>
              <th>{t("live.detail")}</th>
            </tr>
          </thead>
          <tbody>
            {events.map((one) => (
              <tr key={`${one.at_s} ${one.event} ${one.model}`}>
                <td>{time(one.at_s)}</td>
                <td class={one.event === "crashed" || one.event === "load_failed" ? "danger-text" : ""}>
                  {tOf("event", one.event)}
                </td>
                <td>{one.model || one.worker}</td>
                <td>{detailOf(one)}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </section>
  );
}

function detailOf(one: ModelEvent): string {
  const parts = [
    one.seconds ? t("event.took", { n: seconds(one.seconds) }) : "",
    one.n_bytes && one.event === "loaded" ? t("event.holds", { n: bytes(one.n_bytes) }) : "",
    one.n_bytes && one.event === "unloaded" ? t("event.freed", { n: bytes(one.n_bytes) }) : "",
    one.detail,
  ];
  return parts.filter(Boolean).join(", ");
}
