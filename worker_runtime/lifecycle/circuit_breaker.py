"""Decides from a model's past failures when it may be loaded again.

A failed load is followed by a growing back-off; repeated crashes open the breaker for a while.
"""

from collections import deque

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, ServingError
from worker_runtime.engine_process.protocol import PipeError
from worker_runtime.policy import LifecyclePolicy


class CircuitBreaker:
    """All times are seconds of the injected clock; the present time is passed in as `now_s`."""

    def __init__(self, policy: LifecyclePolicy) -> None:
        self._policy = policy
        self._failure: PipeError | None = None
        self._retry_at_s = 0.0
        self._delay_s = policy.backoff_first_s
        self._crashes: deque[float] = deque(maxlen=policy.crash_limit)

    @property
    def cause(self) -> str:
        """Why the last load failed; empty if it did not fail."""
        return self._failure.message if self._failure is not None else ""

    def retry_after_s(self, now_s: float) -> float | None:
        """Seconds until the next load may be tried; None if one may be tried now."""
        wait = self._retry_at_s - now_s
        return wait if self._failure is not None and wait > 0 else None

    def error(self, now_s: float) -> ServingError | None:
        """The error for a request that comes now; None if a load may be tried."""
        wait = self.retry_after_s(now_s)
        return None if wait is None else self._as_error(wait)

    def load_failed(self, error: ServingError, now_s: float) -> None:
        self._failure = PipeError.of(error)
        self._retry_at_s = now_s + self._delay_s
        self._delay_s = min(self._delay_s * 2, self._policy.backoff_most_s)

    def loaded(self) -> None:
        self._failure = None
        self._delay_s = self._policy.backoff_first_s

    def crashed(self, how: str, now_s: float) -> None:
        self._crashes.append(now_s)
        first = self._crashes[0]
        window_s = self._policy.crash_window_s
        if len(self._crashes) == self._policy.crash_limit and now_s - first <= window_s:
            self._retry_at_s = first + window_s
            message = ErrorText("crash_loop", times=len(self._crashes), window_s=window_s, how=how)
            self._failure = PipeError.of(BackendLoadFailed(message))

    def reset(self) -> None:
        """Forget all failures, because the model's files were replaced."""
        self._failure, self._retry_at_s = None, 0.0
        self._delay_s = self._policy.backoff_first_s
        self._crashes.clear()

    def allow_retry(self) -> None:
        """Permit a load now: a user asked for it by hand, and the cause may be gone."""
        self._retry_at_s = 0.0

    def failure(self, now_s: float) -> ServingError:
        """The latest failure, as a new exception object for each caller that receives it."""
        return self._as_error(max(self._retry_at_s - now_s, 0.0))

    def _as_error(self, wait_s: float) -> ServingError:
        assert self._failure is not None
        error = self._failure.error()
        error.retry_after_s = wait_s
        return error
