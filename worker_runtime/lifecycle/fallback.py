"""Chooses which load options are still to be tried after one of them has failed."""

from collections.abc import Sequence

from common.errors import ServingError
from worker_runtime.clock import Clock
from worker_runtime.engine_process.load_errors import broke_down, is_out_of_memory
from worker_runtime.lifecycle.load_options import LoadOption

# Windows grows its page file while a program waits, so the same load may succeed a moment later.
PAGE_FILE_PAUSE_S = 2.0


class Fallback:
    """The load options that are left while one model is being loaded.

    Args:
        options: all load options, the preferred one first.
        limit_s: time for all attempts together; it starts with the first attempt.
    """

    def __init__(self, options: Sequence[LoadOption], clock: Clock, limit_s: float) -> None:
        # The options to choose from next; empty when no attempt is left.
        self.options = options
        # Why the latest attempt failed.
        self.error: ServingError | None = None
        # How long to wait before the next attempt.
        self.pause_s = 0.0
        self._clock = clock
        self._limit_s = limit_s
        self._deadline_s: float | None = None
        self._left: Sequence[LoadOption] = ()
        self._waited_for_page_file = False

    def take(self, number: int) -> LoadOption:
        """Return option `number` and clear `options`; only `failed` fills them again."""
        if self._deadline_s is None:
            self._deadline_s = self._clock.monotonic() + self._limit_s
        self._left, self.options, self.pause_s = self.options[number:], (), 0.0
        return self._left[0]

    def left_s(self) -> float:
        """Seconds left for the attempt that is under way."""
        assert self._deadline_s is not None, "asked after `take`"
        return max(self._deadline_s - self._clock.monotonic(), 0.0)

    def failed(self, error: ServingError) -> bool:
        """Record that the attempt failed; return whether another one is possible."""
        tried, *below = self._left
        self.error = error
        if not self.left_s():
            self.options = ()
        elif broke_down(error) and tried.plain_spec is not None:
            # The kernels for the extra buffers are compiled for few processors, so they are the
            # likely cause.
            self.options = [option.without_extra_buffers() for option in self._left]
        elif not is_out_of_memory(error):
            # What one backend cannot load at all, or not from this file, another may.
            self.options = [option for option in below if not _is_the_same(option, tried)]
        elif error.metadata.get("reason") == "page_file" and not self._waited_for_page_file:
            self._waited_for_page_file = True
            self.pause_s = PAGE_FILE_PAUSE_S
            self.options = self._left
        else:
            self.options = [option for option in below if option.need.total < tried.need.total]
        return bool(self.options)


def _is_the_same(option: LoadOption, tried: LoadOption) -> bool:
    """Whether it loads the same files by the same library."""
    entry, other = option.entry, tried.entry
    return (entry.path, entry.backend) == (other.path, other.backend)
