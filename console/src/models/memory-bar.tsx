/** One bar of the machine's memory, with a legend that says the same in words. */
import { bytes, t, tOf } from "../i18n";
import type { Memory, Model } from "../server/types";
import { PARTS, type Segment, segmentsOf } from "./memory";

const HUES = 6;

export function MemoryBar({ memory, models }: { memory: Memory; models: Model[] }) {
  const segments = segmentsOf(memory, models);
  const hues = new Map(segments.filter((one) => one.model).map((one, place) => [one.model, place % HUES]));
  return (
    <section aria-label={t("models.memory")}>
      <h2>
        {t("models.memory")} <span class="small">{t("models.total", { n: bytes(memory.total_bytes) })}</span>
      </h2>
      <div class="memory-bar" aria-hidden="true">
        {segments.map((segment) => (
          <Piece
            key={segment.kind + (segment.model ?? "")}
            segment={segment}
            hue={hues.get(segment.model) ?? 0}
          />
        ))}
      </div>
      <ul class="legend">
        {segments.map((segment) => (
          <li key={segment.kind + (segment.model ?? "")}>
            <span class={`swatch ${segment.kind} hue-${hues.get(segment.model) ?? 0}`} />
            <span>{nameOf(segment)}</span> <strong>{bytes(segment.bytes)}</strong>
            {segment.parts && <span class="small">{wordsOf(segment.parts)}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Piece({ segment, hue }: { segment: Segment; hue: number }) {
  const { kind, parts } = segment;
  if (!parts)
    return <div class={`piece ${kind}`} style={{ flexGrow: segment.bytes }} title={nameOf(segment)} />;
  return (
    <div
      class={`piece model hue-${hue}`}
      style={{ flexGrow: segment.bytes }}
      title={`${segment.model}: ${wordsOf(parts)}`}
    >
      {PARTS.filter((part) => parts[part] > 0).map((part) => (
        <div key={part} class={`part ${part}`} style={{ flexGrow: parts[part] }} />
      ))}
    </div>
  );
}

function nameOf(segment: Segment): string {
  return segment.model ?? tOf("models", segment.kind);
}

function wordsOf(parts: NonNullable<Segment["parts"]>): string {
  return PARTS.filter((part) => parts[part] > 0)
    .map((part) => `${tOf("models", part)} ${bytes(parts[part])}`)
    .join(" · ");
}
