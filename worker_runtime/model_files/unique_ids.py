"""Gives each model of a scan an id of its own, so that models of one name do not hide each other.

The first model keeps its name; a later one in another folder gets that folder's name in front. A
file and a folder with the same name side by side are one model in two formats: only one is used.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from worker_runtime.model_files.foreign_files import real_path
from worker_runtime.model_files.model_places import Place
from worker_runtime.model_files.odd_paths import printable

log = logging.getLogger(__name__)


class Notes:
    """Logs what a scan reports, once for each new sentence, because scans are repeated."""

    def __init__(self) -> None:
        self._before: set[str] = set()
        self._now: set[str] = set()

    def begin_scan(self) -> None:
        self._before, self._now = self._now, set()

    def __call__(self, sentence: str) -> None:
        if sentence not in self._before | self._now:
            log.info("%s", sentence)
        self._now.add(sentence)


class UniqueIds:
    """The ids and places of one scan's models.

    Args:
        prefers: whether the first of two formats of one model is used rather than the second.
        report: receives a sentence for each model that is renamed or not used.
    """

    def __init__(
        self, prefers: Callable[[Place, Place], bool], report: Callable[[str], None]
    ) -> None:
        self._prefers = prefers
        self._report = report
        self._places: dict[str, Place] = {}

    def items(self) -> Iterator[tuple[str, Place]]:
        return iter(self._places.items())

    def __contains__(self, model_id: str) -> bool:
        return model_id in self._places

    def add(self, place: Place) -> str:
        """Add a model; returns its id, which is empty if the model is not used."""
        wanted = place.wanted_id
        other = self._places.get(wanted)
        if other is None:
            self._places[wanted] = place
            return wanted
        if real_path(other.path) == real_path(place.path):
            return ""
        if place.is_file != other.is_file and real_path(place.path.parent) == real_path(
            other.path.parent
        ):
            return self._one_of_two(wanted, place, other)
        if place.is_built_in:
            self._report(f"the built-in model {wanted} is not used: {_shown(other)} has its name")
            return ""
        return self._rename(wanted, place, other)

    def _one_of_two(self, wanted: str, place: Place, other: Place) -> str:
        preferred = self._prefers(place, other)
        taken, left = (place, other) if preferred else (other, place)
        self._report(f"{_shown(left)} is not used: {_shown(taken)} is the same model {wanted}")
        self._places[wanted] = taken
        return wanted if preferred else ""

    def _rename(self, wanted: str, place: Place, other: Place) -> str:
        for free in _longer_names(wanted, place.path):
            known = self._places.get(free)
            if known is None:
                self._places[free] = place
                self._report(f"{_shown(place)} gets the id {free}: {wanted} is {_shown(other)}")
                return free
            if real_path(known.path) == real_path(place.path):
                return ""
        raise AssertionError("numbers do not end")


def _longer_names(name: str, path: Path) -> Iterator[str]:
    if parent := printable(path.parent.name):
        name = f"{parent}/{name}"
        yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _shown(place: Place) -> str:
    return printable(str(place.path))
