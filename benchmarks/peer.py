"""Another server as a process, for as long as it is measured."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator

import httpx

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
