"""Garbage that holds itself is looked for by its bytes, not only by its objects."""

import gc
import weakref

from common.gc_tuning import N_BYTES, GarbageCounter


class Request:
    """Holds itself, as an error's traceback makes requests do."""

    def __init__(self) -> None:
        self.myself = self


def test_large_requests_are_let_go_long_before_there_are_many_objects() -> None:
    gc.disable()
    try:
        garbage = GarbageCounter()
        left = weakref.ref(Request())
        garbage.count(N_BYTES - 1)
        assert left() is not None
        garbage.count(1)
        assert left() is None
        left = weakref.ref(Request())
        garbage.count(N_BYTES - 1)
        assert left() is not None, "it counts anew"
    finally:
        gc.enable()
        gc.collect()
