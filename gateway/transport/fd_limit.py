"""How many connections the system's limit of open files allows.

At that limit a server cannot even accept a connection to refuse it, and asyncio uses a whole core.
Many systems start a process with 1,024 files and let it raise the limit.
"""

import logging
import sys

# Files of the gateway itself: channels to workers, logs, libraries.
OWN_FILES = 128

log = logging.getLogger(__name__)


def fit_connections(connections: int, backlog: int) -> tuple[int, int]:
    """Raise the limit of open files as far as it is needed and allowed.

    Returns:
        Connections to hold, and connections to accept at once: the wanted numbers, or as many of
        both as the limit allows.
    """
    if sys.platform == "win32":
        return connections, backlog
    wanted = connections + backlog
    room = _raise_limit(wanted + OWN_FILES) - OWN_FILES
    if room >= wanted:
        return connections, backlog
    fitting = [max(1, n * room // wanted) for n in (connections, backlog)]
    log.warning("this process may open few files: %d connections at the most", fitting[0])
    return fitting[0], fitting[1]


def _raise_limit(wanted: int) -> int:
    """The limit of open files, raised to `wanted` if it is lower and that is allowed."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most
