/** What the server says of a download: its plan, and how far it has come. */

export interface Fit {
  variant: string;
  size_bytes: number;
  need_bytes: number;
  room_bytes: number | null;
  verdict: "fits" | "fits_reduced" | "does_not_fit";
  slots: number;
  context_tokens: number;
}

export interface Plan {
  model: string;
  fits: Fit[];
  /** The one that the server proposes. */
  variant: string;
  left_out: string[];
}

/** An event of the server; which fields there are depends on `status`. */
export interface PullEvent {
  status: "resolving" | "planned" | "downloading" | "verifying" | "done";
  plan?: Plan;
  model?: string;
  completed_bytes?: number;
  total_bytes?: number;
  bytes_per_s?: number;
  size_bytes?: number;
  seconds?: number;
  error?: unknown;
}

/** The name of one variant of what was looked at. */
export function nameOf(looked: string, plan: Plan, variant: string): string {
  // Where there is no choice the name says everything already.
  if (plan.fits.length < 2) return looked;
  return `${looked.replace(/:[^/:]*$/, "")}:${variant}`;
}

export function secondsLeft(event: PullEvent): number | null {
  const { completed_bytes = 0, total_bytes = 0, bytes_per_s = 0 } = event;
  return bytes_per_s > 0 ? (total_bytes - completed_bytes) / bytes_per_s : null;
}
