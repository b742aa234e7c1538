"""What reaches the system, call by call."""

from asyncio import Transport

import pytest

from gateway.transport.write_coalescing import WriteCoalescing

HEAD = b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n"


class Recorder(Transport):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(bytes(data))

    def close(self) -> None:
        self.calls.append("closed")


@pytest.mark.parametrize(
    ("written", "reached"),
    [
        ([HEAD, b"{}", b""], [HEAD + b"{}", b""]),
        ([HEAD, b""], [HEAD]),
        ([HEAD, b"{}", HEAD, b"[]"], [HEAD + b"{}", HEAD + b"[]"]),
        ([b"HTTP/1.1 100 \r\n\r\n"], [b"HTTP/1.1 100 \r\n\r\n"]),
        ([b"1\r\n{\r\n", b"1\r\n}\r\n"], [b"1\r\n{\r\n", b"1\r\n}\r\n"]),
    ],
    ids=["one call for both", "no body", "two replies", "go on", "a stream"],
)
def test_a_head_goes_with_what_follows_it(written: list[bytes], reached: list[bytes]) -> None:
    transport = Recorder()
    replies = WriteCoalescing(transport)
    for data in written:
        replies.write(data)
    assert transport.calls == reached


def test_a_close_keeps_nothing_back() -> None:
    transport = Recorder()
    replies = WriteCoalescing(transport)
    replies.write(HEAD)
    replies.close()
    assert transport.calls == [HEAD, "closed"]
