"""Ends a process whose parent is gone, on every system and however the parent died.

The parent keeps the write end of this process's stdin; the kernel closes it when the parent ends,
also by kill -9. What the parent writes into it meanwhile are lines for whoever wants them.
Standard library only: gateway, workers and supervisor share this.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable

# A drain may take this long (streams run 30 s); then the process ends without it.
FORCE_AFTER_S = 40.0
EXIT_CODE = 70


def exit_with_parent(
    force_after_s: float = FORCE_AFTER_S, on_line: Callable[[bytes], None] = lambda line: None
) -> threading.Thread:
    """Watch stdin from a daemon thread: at its end, ask this process to drain, then force it.

    Install the signal handlers first: without one, the end of stdin ends the process at once.

    Args:
        on_line: called in that thread with each line that the parent writes; must not raise.
    """
    watcher = threading.Thread(
        target=_watch, args=(force_after_s, on_line), name="parent watcher", daemon=True
    )
    watcher.start()
    return watcher


def _watch(force_after_s: float, on_line: Callable[[bytes], None]) -> None:
    pending = b""
    try:
        while read := os.read(0, 4096):
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                on_line(line)
    except OSError:
        # Windows reports a parent's death as a broken pipe; both mean that nobody is there.
        pass
    if sys.platform == "win32":
        # os.kill would end the process without its handlers.
        signal.raise_signal(signal.SIGBREAK)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(force_after_s)
    os._exit(EXIT_CODE)
