/** One figure over time, with its latest value in words. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { language, number, t, time } from "../i18n";
import { shown } from "../shell/theme";
import { MINUTES, type Sample } from "./history";

const HEIGHT = 120;
type Field = Exclude<keyof Sample, "at">;

interface Props {
  title: string;
  field: Field;
  history: readonly Sample[];
  digits?: number;
}

export function Plot({ title, field, history, digits = 1 }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const box = place.current!;
    const made = new uPlot(optionsOf(box, field), dataOf([], field), box);
    plot.current = made;
    const watching = new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: HEIGHT }));
    watching.observe(box);
    return () => {
      watching.disconnect();
      made.destroy();
    };
    // Colours and texts are drawn, not styled.
  }, [shown.value, language.value]);
  useEffect(() => plot.current?.setData(dataOf(history, field)), [history, shown.value, language.value]);
  const latest = history.findLast((sample) => sample[field] !== null)?.[field] ?? null;
  const words = latest === null ? "–" : t("live.plotNow", { n: number(latest, digits) });
  return (
    <figure class="plot">
      <figcaption>
        {title} <span class="small">{words}</span>
      </figcaption>
      <div ref={place} role="img" aria-label={`${title}: ${words}`} />
    </figure>
  );
}

function dataOf(history: readonly Sample[], field: Field): uPlot.AlignedData {
  return [history.map((sample) => sample.at), history.map((sample) => sample[field])];
}

function optionsOf(box: HTMLElement, field: Field): uPlot.Options {
  // A figure that is known now and then, such as the time to the first token, is a dot.
  const isRare = field === "firstSeconds" || field === "cachedPercent";
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const grid = { stroke: colour("--line"), width: 1 };
  const font = `11px ${style.fontFamily}`;
  return {
    width: box.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { range: (_, __, latest) => [latest - MINUTES * 60, latest] },
      y: { range: (_, __, most) => [0, (most || 1) * 1.2] },
    },
    axes: [
      {
        stroke: colour("--muted"),
        grid: { show: false },
        ticks: { show: false },
        font,
        size: 22,
        values: (_, moments) => moments.map((moment) => time(moment).slice(0, 5)),
      },
      { stroke: colour("--muted"), grid, ticks: { show: false }, font, size: 44, space: 26 },
    ],
    series: [
      {},
      {
        stroke: colour("--accent"),
        width: 1.5,
        fill: colour("--accent-weak"),
        points: { show: isRare, size: 5, fill: colour("--accent") },
        spanGaps: true,
      },
    ],
  };
}
