"""What one rendering of a stranger's template may take: processor time, and texts that it makes.

The template itself counts, at each call, filter and round of a loop (see `sandbox.py`). It is not
interrupted from another thread: CPython delivers such an exception wherever the thread happens to
be, and loses it where a finalizer runs.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError

from common.error_texts import ErrorText
from common.errors import InvalidRequest

Check = Callable[[], None]

# Of the rendering thread: a busy machine does not make a template slow.
LIMIT_CPU_S = 2.0
CHECK_EVERY_S = 0.1
MAX_WORK_CHARS = 16 * 1024 * 1024
MAX_TOTAL_CHARS = 256 * 1024 * 1024
# What an element of a list takes counts like so many characters.
ELEMENT_CHARS = 8
CONTAINERS = (list, tuple, dict)


class RenderingEnded(BaseException):
    """Ends a rendering with `reason`, an error for the client; no template can catch it."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Spending:
    def __init__(self, check: Check | None) -> None:
        self._check = check
        self._until_cpu_s = time.thread_time() + LIMIT_CPU_S
        self._look_at_s = time.monotonic() + CHECK_EVERY_S
        self._n_chars = 0

    def time(self) -> None:
        if time.monotonic() < self._look_at_s:
            return
        self._look_at_s = time.monotonic() + CHECK_EVERY_S
        if time.thread_time() > self._until_cpu_s:
            raise RenderingEnded(InvalidRequest(ErrorText("template_too_slow"), param="messages"))
        if self._check is not None:
            try:
                self._check()
            except Exception as reason:
                # Whatever it is, it is no failure of the template.
                raise RenderingEnded(reason) from reason

    def chars(self, n_chars: int) -> None:
        self._n_chars += n_chars
        if n_chars > MAX_WORK_CHARS or self._n_chars > MAX_TOTAL_CHARS:
            raise SecurityError("an intermediate text is too long")


_spending: ContextVar[_Spending] = ContextVar("spending")


@contextlib.contextmanager
def rendering(check: Check | None) -> Iterator[None]:
    """Bound what a template does in here.

    Args:
        check: called from time to time; an exception that it raises ends the rendering.
    Raises:
        InvalidRequest: the template takes too long.
    """
    before = _spending.set(_Spending(check))
    try:
        yield
    except RenderingEnded as ended:
        raise ended.reason from None
    finally:
        _spending.reset(before)


def charge_time() -> None:
    """End this rendering if its time is over, or if it is not wanted any more."""
    _spending.get().time()


def charge_chars(n_chars: int) -> None:
    """Charge an intermediate text of this size before it is created."""
    _spending.get().chars(n_chars)


def charge_text_of(value: Any) -> None:
    """Charge the text of `value` before it is made, with all that lists and dictionaries hold.

    A small list that holds another one many times is a large text.
    """
    if isinstance(value, str):
        charge_chars(len(value))
        return
    n_chars = ELEMENT_CHARS
    pending = [value] if isinstance(value, CONTAINERS) else []
    while pending and n_chars <= MAX_WORK_CHARS:
        holder = pending.pop()
        n_chars += ELEMENT_CHARS * len(holder)
        for each in itertools.chain(holder, holder.values() if isinstance(holder, dict) else ()):
            if isinstance(each, str):
                n_chars += len(each)
            elif isinstance(each, CONTAINERS):
                pending.append(each)
    charge_chars(n_chars)


def charged_result(value: Any) -> Any:
    """Charge the time so far and the size of `value`, and return it."""
    charge_time()
    charge_chars(size_of(value))
    return value


def size_of(value: Any) -> int:
    """Of a text in characters, and what a list itself counts like; other values are small."""
    if isinstance(value, list | tuple):
        return len(value) * ELEMENT_CHARS
    return len(value) if isinstance(value, str | bytes) else 0
