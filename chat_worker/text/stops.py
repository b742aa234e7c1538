"""Finds stop strings in a stream of text, also across chunks."""

from collections.abc import Sequence


class StopFilter:
    """Passes text on up to a stop string; holds back only what may be the beginning of one.

    >>> stops = StopFilter(["END"])
    >>> stops.push("the E"), stops.push("N"), stops.push("D of it"), stops.found
    ('the ', '', '', 'END')
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that can be passed on now; nothing after a stop string was found."""
        if self.found is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        hit = self._first_hit()
        if hit is not None:
            at, self.found = hit
            shown, self._held = self._held[:at], ""
            return shown
        keep = self._n_possible()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """The held text: the stream has ended, so it is not the beginning of a stop string."""
        shown, self._held = self._held, ""
        return shown

    def _first_hit(self) -> tuple[int, str] | None:
        """The stop string that ends first, as if the text were read character by character."""
        hits = [(self._held.find(stop), stop) for stop in self._stops]
        found = [(at + len(stop), at, stop) for at, stop in hits if at >= 0]
        if not found:
            return None
        _, at, stop = min(found, key=lambda hit: (hit[0], hit[1]))
        return at, stop

    def _n_possible(self) -> int:
        """The length of the longest suffix of the held text that begins a stop string."""
        longest = max(len(stop) for stop in self._stops) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            suffix = self._held[-length:]
            if any(stop.startswith(suffix) for stop in self._stops):
                return length
        return 0
