"""Ends a process whose parent has ended, on every system and however the parent ended.

The parent holds the write end of this process's stdin, and the kernel closes it when the parent
ends, also by kill -9. Until then the parent may write lines for whoever needs them.
Standard library only, because gateway, workers and supervisor use this.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable

# Longest duration of a drain (streams get 30 s). After it the process ends anyway.
FORCE_AFTER_S = 40.0
EXIT_CODE = 70


def exit_with_parent(
    force_after_s: float = FORCE_AFTER_S, on_line: Callable[[bytes], None] = lambda line: None
) -> threading.Thread:
    """Watch stdin from a daemon thread. At its end, ask this process to drain; later force its end.

    Install the signal handlers first: without a handler, the end of stdin ends the process at once.

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
        # Windows reports the parent's end as a broken pipe.
        pass
    if sys.platform == "win32":
        # os.kill would end the process without running its signal handlers.
        signal.raise_signal(signal.SIGBREAK)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(force_after_s)
    os._exit(EXIT_CODE)
