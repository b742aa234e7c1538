"""What is counted while requests run, by model and by key; `exposition.py` shows it."""

from collections import Counter

from gateway.measures.by_label import ByLabel
from gateway.measures.histogram import OVERHEAD_BOUNDS, TIME_BOUNDS, TOKEN_BOUNDS, Histogram

# A label is a time series of each metric, in this process and in Prometheus.
MOST_MODELS = 64
MOST_KEYS = 200
MOST_RULES = 250


class ModelMeasures:
    """Of one model. Times in seconds."""

    def __init__(self) -> None:
        self.first_token = Histogram(TIME_BOUNDS)
        self.between_tokens = Histogram(TIME_BOUNDS)
        self.queue = Histogram(TIME_BOUNDS)
        self.prefill = Histogram(TIME_BOUNDS)
        self.decode = Histogram(TIME_BOUNDS)
        self.whole = Histogram(TIME_BOUNDS)
        self.prompt_tokens = Histogram(TOKEN_BOUNDS)
        self.completion_tokens = Histogram(TOKEN_BOUNDS)
        self.embedding = Histogram(TIME_BOUNDS)
        self.embedding_tokens = Histogram(TOKEN_BOUNDS)
        self.cached_tokens = 0
        self.ended_by: Counter[str] = Counter()
        self.n_running = 0
        self.n_waiting = 0


class KeyMeasures:
    """Of one key."""

    def __init__(self) -> None:
        self.requests = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.refused: Counter[str] = Counter()


class Measures:
    """All that is counted."""

    def __init__(self) -> None:
        self.models = ByLabel(ModelMeasures, MOST_MODELS)
        self.keys = ByLabel(KeyMeasures, MOST_KEYS)
        # Matches of each of the guard's rules, by its action and "input" or "output".
        self.rules: ByLabel[Counter[tuple[str, str]]] = ByLabel(Counter, MOST_RULES)
        # From a request's arrival until a worker is called for it.
        self.overhead = Histogram(OVERHEAD_BOUNDS)
