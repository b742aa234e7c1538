"""Ends a process whose parent is gone, on every system and however the parent died.

The parent keeps the write end of this process's stdin; the kernel closes it when the parent ends,
also by kill -9. Standard library only: gateway, workers and supervisor share this.
"""

import os
import signal
import sys
import threading

# A drain may take this long (streams run 30 s); then the process ends without it.
FORCE_AFTER_S = 40.0
EXIT_CODE = 70


def exit_with_parent(force_after_s: float = FORCE_AFTER_S) -> threading.Thread:
    """Watch stdin from a daemon thread: at its end, ask this process to drain, then force it.

    Install the signal handlers first: without one, the end of stdin ends the process at once.
    """
    watcher = threading.Thread(
        target=_watch, args=(force_after_s,), name="parent watcher", daemon=True
    )
    watcher.start()
    return watcher


def _watch(force_after_s: float) -> None:
    try:
        while os.read(0, 4096):
            pass
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
