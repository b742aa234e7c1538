"""When a server looks for garbage that holds itself.

An error's traceback holds the frames that it went through, and with them the request. Python looks
for such circles after so many new objects, whatever they weigh: sixty refused requests of 8 MiB
left 200 MB in a gateway and 550 MB in a worker. So bytes are counted too, and objects less often: a
look after every 700 took an eighth of the gateway's processor time.
"""

import gc

N_OBJECTS = 10_000
N_BYTES = 8 * 1024 * 1024


def freeze_startup_objects() -> None:
    """Call it when a server has started: what lives then lives for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(N_OBJECTS, 10, 10)


class GarbageCounter:
    """What requests may have left behind since the last look."""

    def __init__(self) -> None:
        self._n_bytes = 0

    def count(self, n_bytes: int) -> None:
        """Note a request's bytes as it comes; now and then this takes some milliseconds."""
        self._n_bytes += n_bytes
        if self._n_bytes >= N_BYTES:
            self._n_bytes = 0
            gc.collect()
