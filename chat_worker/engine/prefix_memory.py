"""Prefixes in memory, within a limit; the least recently used ones go first."""

from chat_worker.engine.prefixes import HeldPrefix, covering, longest, outdated


class PrefixMemory:
    """The prefixes of one model in memory.

    Args:
        whole: the backend cannot use a part of a prefix.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        # The least recently used first.
        self._held: list[HeldPrefix] = []
        self.max_bytes = 0

    @property
    def n_bytes(self) -> int:
        return sum(prefix.state.nbytes for prefix in self._held)

    @property
    def held(self) -> list[HeldPrefix]:
        """All prefixes, the most recently used first."""
        return self._held[::-1]

    def longest(self, tokens: list[int], salt: str) -> tuple[HeldPrefix | None, int]:
        return longest(self.held, tokens, salt, whole=self._whole)

    def touch(self, prefix: HeldPrefix) -> None:
        """It was used."""
        if prefix in self._held:
            self._held.remove(prefix)
            self._held.append(prefix)

    def drop(self, prefix: HeldPrefix) -> None:
        """It is of no use."""
        if prefix in self._held:
            self._held.remove(prefix)

    def refresh(self, tokens: list[int], salt: str) -> bool:
        """True if `tokens` need not be added, because a prefix begins with them; it is touched."""
        prefix = covering(self._held, tokens, salt, whole=self._whole)
        if prefix is not None:
            self.touch(prefix)
        return prefix is not None

    def make_room(self, tokens: list[int], salt: str, n_bytes: int) -> list[HeldPrefix] | None:
        """Make room for a new prefix of `n_bytes` before its memory is taken.

        Returns:
            The prefixes that were dropped for lack of room; None if it can never fit.
        """
        if n_bytes > self.max_bytes:
            return None
        for prefix in outdated(self._held, tokens, salt, whole=self._whole):
            self._held.remove(prefix)
        return self._shrink(self.max_bytes - n_bytes)

    def add(self, prefix: HeldPrefix) -> None:
        """Add a prefix for which there is room."""
        self._held.append(prefix)

    def limit(self, max_bytes: int) -> list[HeldPrefix]:
        """Hold no more than `max_bytes` from now on; returns what was dropped for that."""
        self.max_bytes = max_bytes
        return self._shrink(max_bytes)

    def clear(self) -> None:
        self._held.clear()

    def _shrink(self, n_bytes: int) -> list[HeldPrefix]:
        dropped = []
        while self.n_bytes > n_bytes:
            dropped.append(self._held.pop(0))
        return dropped
