"""The protocol of third-party classifiers, such as a model that recognises prompt injection.

A package registers a classifier under the entry point group `y26hkx.guard_classifiers`, as backends
are registered; a policy names it. `docs/guard.md` has an example. It is imported and run in a
process of its own: it may load any library, use any memory, and crash, without the gateway.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, Self, runtime_checkable

ENTRY_POINT_GROUP = "y26hkx.guard_classifiers"


@runtime_checkable
class Classifier(Protocol):
    """A loaded classifier. One call runs at a time, all of them on one thread."""

    @classmethod
    def load(cls, **options: Any) -> Self:
        """
        Args:
            options: those of the policy.
        """

    def score(self, texts: list[str]) -> list[float]:
        """How surely each text is what the classifier looks for, from 0 to 1."""


def installed_classifiers() -> dict[str, EntryPoint]:
    """The classifiers that installed packages register, by name; none of them is imported."""
    return {found.name: found for found in entry_points(group=ENTRY_POINT_GROUP)}
