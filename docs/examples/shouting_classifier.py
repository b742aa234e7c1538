"""An example of a classifier for the guard: how much of a text is in capitals.

A real one loads a model in `load`; nothing else changes. See docs/guard.md.
"""

from typing import Any, Self


class ShoutingClassifier:
    def __init__(self, n_letters: int) -> None:
        self._n_letters = n_letters

    @classmethod
    def load(cls, **options: Any) -> Self:
        """
        Args:
            options: `n_letters`, which a text must have to be judged.
        """
        return cls(options.get("n_letters", 4))

    def score(self, texts: list[str]) -> list[float]:
        return [self._share_of_capitals(text) for text in texts]

    def _share_of_capitals(self, text: str) -> float:
        letters = [char for char in text if char.isalpha()]
        if len(letters) < self._n_letters:
            return 0.0
        return sum(char.isupper() for char in letters) / len(letters)
