/** What the server's own paths answer, as far as the console reads it. */

export interface ModelMemory {
  estimated_bytes?: number;
  booked_bytes?: number;
  weights_bytes?: number;
  kv_bytes?: number;
  compute_bytes?: number;
  caches_bytes?: number;
}

export interface Model {
  id: string;
  capability: "chat" | "embed" | "unspecified";
  state: string;
  backend?: string;
  is_default?: boolean;
  context_length?: number | null;
  size_bytes?: number;
  resident_bytes?: number;
  n_leases?: number;
  n_waiting?: number;
  idle_seconds?: number | null;
  expires_in_seconds?: number | null;
  pinned?: boolean;
  reductions?: string[];
  served_by?: string | null;
  memory?: ModelMemory;
  load_fraction?: number;
  load_stage?: string;
  failure?: string;
}

export interface Process {
  process: string;
  worker?: string;
  model?: string;
  resident_bytes: number;
  peak_bytes?: number;
}

export interface Memory {
  total_bytes: number;
  available_bytes: number;
  headroom_bytes: number;
  booked_bytes: number;
  gateway_bytes: number;
  workers_bytes: number;
  engines_bytes: number;
  pressure: string;
  processes: Process[];
}

export interface Worker {
  address: string;
  serving: boolean;
  draining: boolean;
  queue_depth: number;
  n_active: number;
  uptime_seconds: number;
}

export interface Service {
  state: string;
  n_restarts: number;
  reason: string;
}

/** A setting of the gateway; `in_force` is what follows from it where that differs. */
export interface Setting {
  value: unknown;
  origin: string;
  in_force?: unknown;
}

export interface Detailed {
  status: string;
  memory: Memory;
  models: { main_model: string; all: Record<string, Model> };
  workers: Record<string, Worker[]>;
  warnings: string[];
  services?: Record<string, Service>;
  settings?: Record<string, Setting>;
}

export interface Listed<T> {
  data: T[];
}

export type Limits = Partial<
  Record<"requests_per_minute" | "tokens_per_minute" | "tokens_per_day" | "tokens_per_month", number>
>;

/** A key with rights, without its secret; `expires_at` in seconds since the epoch. */
export interface Key {
  id: string;
  alias: string;
  admin: boolean;
  models: string[] | null;
  chat: Limits;
  embeddings: Limits;
  expires_at?: number;
}

/** What a key has used of a model on one day. */
export interface Used {
  date: string;
  key: string;
  alias: string;
  kind: string;
  model: string;
  requests: number;
  prompt_tokens: number;
  completion_tokens: number;
}

export interface RunningRequest {
  request_id: string;
  model: string;
  state: "running" | "waiting";
  seconds: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  first_token_seconds: number | null;
  tokens_per_second: number | null;
  waits_for?: string;
  position?: number | null;
  estimated_wait_seconds?: number | null;
  load_fraction?: number;
}

export interface Totals {
  generations: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  first_tokens: number;
  first_token_seconds: number;
}

export interface ModelEvent {
  at_s: number;
  event: string;
  model: string;
  detail: string;
  n_bytes: number;
  seconds: number;
  worker: string;
}

export interface Activity {
  n_running: number;
  n_waiting: number;
  requests: RunningRequest[];
  totals: Totals;
  events: ModelEvent[];
}
