/** The icons, as strokes on a square of 24. */

const SHAPES = {
  chat: "M4 5h16v11H9l-5 4z",
  models: "M4 7l8-4 8 4-8 4zM4 12l8 4 8-4M4 17l8 4 8-4",
  live: "M3 12h4l3-8 4 16 3-8h4",
  embeddings: "M5 6h.01M12 4h.01M18 9h.01M7 13h.01M13 12h.01M18 17h.01M9 19h.01M13 12l5-3M13 12l-6 1",
  health: "M12 20S4 15 4 9a4 4 0 0 1 8-1 4 4 0 0 1 8 1c0 6-8 11-8 11z",
  reference: "M8 6l-5 6 5 6M16 6l5 6-5 6",
  menu: "M4 6h16M4 12h16M4 18h16",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  send: "M12 20V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12l5 5 9-10",
  edit: "M4 20l1-5L16 4l4 4L9 19z",
  again: "M4 12a8 8 0 1 0 3-6M4 4v5h5",
  clip: "M19 11l-7 7a4 4 0 0 1-6-6l8-8a3 3 0 0 1 4 4l-8 8a1 1 0 0 1-2-2l7-7",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  options: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4v6M9 14v6",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5M13 5l-2 14",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1 1M18 18l1 1M19 5l-1 1M6 18l-1 1",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
  key: "M14 10a4 4 0 1 0-3 4l2 2h2v2h2v2h3v-3z",
} as const;

export type IconName = keyof typeof SHAPES;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={SHAPES[name]} />
    </svg>
  );
}
