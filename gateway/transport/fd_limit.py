"""How many connections the system's limit of open files leaves room for.

Out of files, a server cannot even accept a connection to refuse it: asyncio then spins. Many
systems start a process with 1,024 files and let it have more.
"""

import logging
import sys

# Workers' channels, logs, libraries.
OWN_FILES = 128

log = logging.getLogger(__name__)


def fit_connections(connections: int, backlog: int) -> tuple[int, int]:
    """Connections to hold and to accept at once: as wanted, or as many of both as there is room for
    after the limit was raised as far as it may be."""
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
