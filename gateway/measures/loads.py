"""How long loads took, from the sums that workers report: whenever they are looked at."""

from collections.abc import Iterable
from typing import NamedTuple

from gateway.measures.by_label import ByLabel
from gateway.measures.histogram import TIME_BOUNDS, Histogram
from gateway.measures.measures import MOST_MODELS


class LoadSums(NamedTuple):
    """What a worker has loaded since it started."""

    worker: str
    model: str
    loads: int
    seconds: float


class LoadTimes:
    """A histogram by model. Loads between two looks count as equally long, which is rare."""

    def __init__(self) -> None:
        self.models = ByLabel(lambda: Histogram(TIME_BOUNDS), MOST_MODELS)
        self._known: dict[tuple[str, str], LoadSums] = {}

    def look(self, sums: Iterable[LoadSums]) -> None:
        """Count the loads since the last look; a worker that counts anew was started again."""
        # A worker of both kinds reports twice.
        known = {(now.worker, now.model): now for now in sums}
        for place, now in known.items():
            before = self._known.get(place)
            if before is None or now.loads < before.loads:
                before = LoadSums(*place, 0, 0.0)
            if (n := now.loads - before.loads) > 0:
                self.models[now.model].observe(max(0.0, now.seconds - before.seconds) / n, n)
        self._known = known
