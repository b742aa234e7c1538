"""A small HTTP/1.1 client for load: one keep-alive connection, as little CPU as possible.

A full client library costs more per request than the gateway does, so it would measure itself.
"""

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import msgspec

OK = 200


@dataclass
class Stream:
    """One streamed answer: when its pieces came, and the tokens that the server counted: of the
    answer, of the prompt, and of that those in a cache."""

    started_s: float
    status: int = 0
    event_times_s: list[float] = field(default_factory=list)
    n_tokens: int = 0
    n_prompt: int = 0
    n_cached: int = 0

    @property
    def first_token_s(self) -> float:
        return self.event_times_s[0] - self.started_s

    @property
    def gaps_s(self) -> list[float]:
        """Between its tokens; 0 between those that came in one piece."""
        between_pieces = [b - a for a, b in itertools.pairwise(self.event_times_s)]
        return between_pieces + [0.0] * (self.n_tokens - len(self.event_times_s))


class Connection:
    """Sends one request at a time to `host:port`.

    Args:
        key: sent with each; empty: none.
    """

    def __init__(self, host: str, port: int, key: str = "") -> None:
        self._address = host, port
        self._key = f"Authorization: Bearer {key}\r\n" if key else ""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._address, limit=2**24)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the whole body."""
        self._send(path, body)
        status, headers = await self._head()
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            return status, b"".join([chunk async for chunk in self._chunks()])
        return status, await self._reader.readexactly(int(headers[b"content-length"]))

    async def stream(
        self, path: str, body: bytes, on_piece: Callable[[], None] = lambda: None
    ) -> Stream:
        """Read a server-sent event stream to its end, with the counts of its `usage`.

        Args:
            on_piece: called when a piece of the answer has come.
        """
        result = Stream(time.perf_counter())
        self._send(path, body)
        result.status, _ = await self._head()
        buffered = b""
        async for chunk in self._chunks():
            now = time.perf_counter()
            *events, buffered = (buffered + chunk).split(b"\n\n")
            for event in events:
                if b'"content":"' in event and b'"content":""' not in event:
                    result.event_times_s.append(now)
                    on_piece()
                if b'"usage":{' in event:
                    usage = msgspec.json.decode(event[event.index(b"{") :])["usage"]
                    result.n_tokens = usage["completion_tokens"]
                    result.n_prompt = usage["prompt_tokens"]
                    result.n_cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        return result

    def _send(self, path: str, body: bytes) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._address[0]}:{self._address[1]}\r\n"
            f"Content-Type: application/json\r\n{self._key}Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)

    async def _head(self) -> tuple[int, dict[bytes, bytes]]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        pairs = (line.split(b":", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, value in pairs}

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)


async def flood(
    port: int, path: str, body: bytes, n_clients: int = 16, n_each: int = 100, key: str = ""
) -> float:
    """Requests per second."""

    async def one() -> None:
        async with Connection("127.0.0.1", port, key) as connection:
            for _ in range(n_each):
                status, reply = await connection.post(path, body)
                if status != OK:
                    raise RuntimeError(f"status {status}: {reply[:200]!r}")

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(n_clients)))
    return n_clients * n_each / (time.perf_counter() - started)


async def one_by_one(port: int, path: str, body: bytes, n: int = 300) -> float:
    """Median seconds of one request at a time."""
    took = []
    async with Connection("127.0.0.1", port) as connection:
        for _ in range(n):
            started = time.perf_counter()
            status, _ = await connection.post(path, body)
            took.append(time.perf_counter() - started)
            if status != OK:
                raise RuntimeError(f"status {status}")
    return statistics.median(took)


async def send_alone(port: int, path: str, body: bytes) -> Stream:
    """Stream one answer on a connection of its own."""
    async with Connection("127.0.0.1", port) as connection:
        return await connection.stream(path, body)


async def send_from_process(port: int, path: str, body: bytes) -> Stream:
    """Stream one answer to a program that starts for it."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.http_load", str(port), path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await program.communicate(body)
    return msgspec.json.decode(said, type=Stream)


if __name__ == "__main__":
    found = asyncio.run(send_alone(int(sys.argv[1]), sys.argv[2], sys.stdin.buffer.read()))
    sys.stdout.buffer.write(msgspec.json.encode(found))
