"""Decides when a server runs Python's cyclic garbage collector.

An error's traceback refers to the frames that it passed, and so to the request. Python looks for
such reference cycles after a number of new objects, whatever their size: sixty refused requests of
8 MiB left 200 MB in a gateway and 550 MB in a worker. So bytes are counted, too, and objects count
less: a collection after every 700 objects took an eighth of the gateway's processor time.
"""

import gc

N_OBJECTS = 10_000
N_BYTES = 8 * 1024 * 1024


def freeze_startup_objects() -> None:
    """To be called when a server has started: the objects that exist then are never collected."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(N_OBJECTS, 10, 10)


class GarbageCounter:
    """Counts what requests may have left behind since the last collection."""

    def __init__(self) -> None:
        self._n_bytes = 0

    def count(self, n_bytes: int) -> None:
        """Count a request's bytes when it arrives. Sometimes this takes some milliseconds."""
        self._n_bytes += n_bytes
        if self._n_bytes >= N_BYTES:
            self._n_bytes = 0
            gc.collect()
