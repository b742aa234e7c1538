/** Downloads a model by name, and says before which of its variants fit this machine. */
import { useState } from "preact/hooks";

import { bytes, number, seconds, t, tOf } from "../i18n";
import { Button, ErrorNote, Table } from "../shell/controls";
import { finished, isLooking, look, looked, pull, pullFailed, running, stopPull } from "./pull";
import { type Fit, nameOf, type PullEvent, secondsLeft } from "./pull-plan";

export function PullSection({ onChange }: { onChange: () => void }) {
  const [name, setName] = useState("");
  const isBusy = isLooking.value || running.value !== null;
  return (
    <section>
      <h2>{t("pull.title")}</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void look(name.trim());
        }}
      >
        <label>
          {t("pull.name")}
          <input
            type="text"
            value={name}
            placeholder="hf.co/org/repo"
            autocapitalize="off"
            spellcheck={false}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <span class="small">{t("pull.names")}</span>
        </label>
        <Button submits label={t("pull.look")} disabled={isBusy || !name.trim()} />
      </form>
      {pullFailed.value && <ErrorNote error={pullFailed.value} />}
      {running.value && <Progress event={running.value} />}
      <div role="status" class="small">
        {isLooking.value && t("pull.looking")}
        {finished.value && t("pull.done", { model: finished.value.model ?? "" })}
      </div>
      {looked.value && <Variants isBusy={isBusy} onChange={onChange} />}
    </section>
  );
}

function Variants({ isBusy, onChange }: { isBusy: boolean; onChange: () => void }) {
  const { name, plan } = looked.value!;
  return (
    <>
      <Table label={t("pull.variants")}>
        <thead>
          <tr>
            <th>{t("pull.variant")}</th>
            <th class="right">{t("models.size")}</th>
            <th class="right">{t("pull.needs")}</th>
            <th>{t("pull.verdict")}</th>
            <th>{t("models.actions")}</th>
          </tr>
        </thead>
        <tbody>
          {plan.fits.map((fit) => (
            <tr key={fit.variant}>
              <th scope="row">
                {fit.variant}{" "}
                {fit.variant === plan.variant && <span class="small">{t("pull.proposed")}</span>}
              </th>
              <td class="right">{bytes(fit.size_bytes)}</td>
              <td class="right">{bytes(fit.need_bytes)}</td>
              <td class={fit.verdict === "does_not_fit" ? "danger-text" : ""}>{verdictOf(fit)}</td>
              <td>
                <Button
                  kind={fit.variant === plan.variant ? "primary" : "plain"}
                  label={fit.verdict === "does_not_fit" ? t("pull.anyway") : t("pull.download")}
                  disabled={isBusy}
                  onClick={() => void pull(nameOf(name, plan, fit.variant), fit).then(onChange)}
                />
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
      {plan.left_out.map((one) => (
        <p key={one} class="small">
          {one}
        </p>
      ))}
    </>
  );
}

function verdictOf(fit: Fit): string {
  const room = fit.room_bytes === null ? "" : t("pull.room", { n: bytes(fit.room_bytes) });
  const load = fit.slots ? t("pull.slots", { n: fit.slots, tokens: number(fit.context_tokens) }) : "";
  const parts = fit.verdict === "does_not_fit" ? [room] : [load];
  return [tOf("pull", fit.verdict), ...parts].filter(Boolean).join(", ");
}

function Progress({ event }: { event: PullEvent }) {
  const { completed_bytes: done, total_bytes: all = 0, bytes_per_s: rate = 0 } = event;
  const left = secondsLeft(event);
  const words = [
    tOf("pull", event.status),
    done !== undefined && t("pull.of", { n: bytes(done), all: bytes(all) }),
    rate > 0 && t("pull.rate", { n: bytes(rate) }),
    left !== null && event.status === "downloading" && t("live.wait", { n: seconds(left) }),
  ];
  return (
    <div class="progress">
      <progress aria-label={t("pull.title")} max={all || 1} value={all ? (done ?? 0) : undefined} />
      <div class="row">
        <span class="small">{words.filter(Boolean).join(" · ")}</span>
        <Button label={t("action.cancel")} onClick={stopPull} />
      </div>
    </div>
  );
}
