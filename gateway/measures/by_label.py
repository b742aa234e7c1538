"""Objects by the value of a label, with a bound: the ones that come too late share one."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
OTHER = "other"


class ByLabel(Generic[T]):
    """
    Args:
        make: makes the object of a new label.
        most: how many labels have an object of their own.
    """

    def __init__(self, make: Callable[[], T], most: int) -> None:
        self._make = make
        self._most = most
        self._found: dict[str, T] = {}

    def __getitem__(self, label: str) -> T:
        found = self._found.get(label)
        return self._new(label) if found is None else found

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(list(self._found.items()))

    def _new(self, label: str) -> T:
        if len(self._found) >= self._most:
            label = OTHER
        return self._found.setdefault(label, self._make())
