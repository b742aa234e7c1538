"""Another server as a process, for as long as it is measured."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import httpx
import psutil

START_S = 120


@contextlib.contextmanager
def peer(arguments: list[str], port: int) -> Iterator[int]:
    """Run `arguments`, which serve on `port`, from their first sign of health to the block's end.

    Raises:
        RuntimeError: there was none in time.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
        try:
            _wait_healthy(process, port)
            yield port
        finally:
            process.terminate()
            process.wait()


def _wait_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == httpx.codes.OK:
                return
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} did not come up")


def pin(pid: int, core: int) -> None:
    if sys.platform != "darwin" and (psutil.cpu_count() or 1) > 1:
        psutil.Process(pid).cpu_affinity([core])


def wait_for(url: str, within_s: float = 20) -> None:
    """Return once `url` answers 200."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")
