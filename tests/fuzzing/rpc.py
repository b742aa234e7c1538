"""Calls of the workers' gRPC ports that no gateway makes: bytes that are no messages, and messages
whose fields have any value that their types allow.

`python -m tests.fuzzing.rpc` asks the workers of a stack of its own.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.y26hkx.v1 import chat_pb2, embed_pb2, worker_pb2
from tests.running_stack import GUIDE, MINILM, RunningStack, free_port

# By port: the services of a worker of each kind.
SERVICES = {
    "chat": (chat_pb2.DESCRIPTOR.services_by_name["ChatService"],),
    "embed": (embed_pb2.DESCRIPTOR.services_by_name["EmbedService"],),
}
OF_ALL = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
TOKEN = "a token of this test"
TIMEOUT_S = 60.0
# A worker that is lost, a call that hangs, and an error that nobody has mapped.
WRONG = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
}
# By method, what is right nevertheless: no model is loaded for a direct stream.
RIGHT = {"OpenDirectStream": grpc.StatusCode.UNAVAILABLE}
NO_HTTP2 = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x05\x00\x00\x00\x01",
)
TEXTS = (
    "",
    "a",
    "\x00",
    "<|im_start|>",
    "鍵" * 50,
    "x" * 20_000,
    "{" * 500,
    "%s{{7*7}}",
    "../../etc",
)
NUMBERS = {
    "int": (0, 1, 2, 7, 255, 2**31 - 1),
    "unsigned": (2**32 - 1,),
    "signed": (-1, -(2**31)),
    "real": (0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf")),
}
F = FieldDescriptor
UNSIGNED = {F.TYPE_UINT32, F.TYPE_UINT64, F.TYPE_FIXED32, F.TYPE_FIXED64}
REAL = {F.TYPE_FLOAT, F.TYPE_DOUBLE}


@dataclass
class Outcomes:
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def fuzz(ports: dict[str, int], n_calls: int, seed: int = 0) -> Outcomes:
    """Make `n_calls` calls of each worker's methods, half of them no messages."""
    chance, found = random.Random(seed), Outcomes()
    for kind, port in ports.items():
        for sent in NO_HTTP2:
            await _send_bytes(port, sent)
        methods = [method for service in (*SERVICES[kind], OF_ALL) for method in service.methods]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for number in range(n_calls):
                method = methods[number % len(methods)]
                request = hostile(method, chance) if chance.random() < 0.5 else _noise(chance)
                status = await _call(channel, method, request)
                found.statuses[f"{method.name} {status.name}"] += 1
                if status in WRONG and status is not RIGHT.get(method.name):
                    found.wrong.append(f"{method.name} {status.name} {request[:500]!r}")
    return found


def hostile(method: MethodDescriptor, chance: random.Random) -> bytes:
    """A message that a method takes, with values at the ends of what types allow."""
    message = GetMessageClass(method.input_type)()
    _fill(message, chance, 0)
    if hasattr(message, "model") and chance.random() < 0.8:
        message.model = chance.choice(("", GUIDE, MINILM))
    return message.SerializeToString()


def _fill(message: Message, chance: random.Random, depth: int) -> None:
    for described in message.DESCRIPTOR.fields:
        if chance.random() < 0.5 or depth > 4:
            continue
        name = described.name
        if described.message_type is not None and described.message_type.GetOptions().map_entry:
            continue
        n = chance.choice((1, 1, 2, 40)) if described.is_repeated else 1
        if described.message_type is not None:
            for _ in range(n):
                into = getattr(message, name)
                _fill(into.add() if described.is_repeated else into, chance, depth + 1)
        elif described.is_repeated:
            getattr(message, name).extend(_value(described, chance) for _ in range(n))
        else:
            setattr(message, name, _value(described, chance))


def _value(described: Any, chance: random.Random) -> Any:
    match described.type:
        case F.TYPE_STRING:
            return chance.choice(TEXTS)
        case F.TYPE_BYTES:
            return chance.randbytes(chance.choice((0, 3, 64)))
        case F.TYPE_BOOL:
            return chance.random() < 0.5
        case kind if kind in REAL:
            return chance.choice(NUMBERS["real"])
        case kind if kind in UNSIGNED:
            return chance.choice(NUMBERS["int"] + NUMBERS["unsigned"])
    return chance.choice(NUMBERS["int"] + NUMBERS["signed"])


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 5, 60, 4000)))


async def _call(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: bytes
) -> grpc.StatusCode:
    service = method.containing_service
    make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    metadata = (("authorization", f"Bearer {TOKEN}"), ("traceparent", "x"))
    if method.client_streaming:
        many: Any = channel.stream_stream(f"/{service.full_name}/{method.name}")
        call = many(iter([request]), metadata=metadata, timeout=TIMEOUT_S)
    else:
        call = make(f"/{service.full_name}/{method.name}")(
            request, metadata=metadata, timeout=TIMEOUT_S
        )
    try:
        if not method.server_streaming:
            await call
            return grpc.StatusCode.OK
        # The first reply, then this side leaves.
        if await call.read() is grpc.aio.EOF:
            status: grpc.StatusCode = await call.code()
            return status
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        call.cancel()
    return grpc.StatusCode.CANCELLED


async def _send_bytes(port: int, sent: bytes) -> None:
    """Send what is no HTTP/2, and hang up when the worker does, or does not answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(1):
            await reader.read()
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()


def fuzzed_stack(log: Path) -> tuple[RunningStack, dict[str, int]]:
    """A stack whose workers can be called from outside, and their ports."""
    ports = {"chat": free_port(), "embed": free_port()}
    stack = RunningStack(
        log,
        WORKER_TOKEN=TOKEN,
        CHAT_WORKER_PORT=str(ports["chat"]),
        EMBED_WORKER_PORT=str(ports["embed"]),
    )
    return stack, ports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        running, ports = fuzzed_stack(Path(folder) / "stack.log")
        with running:
            found = asyncio.run(fuzz(ports, given.calls // len(ports), given.seed))
    for what, n in sorted(found.statuses.items()):
        sys.stdout.write(f"{n:7} {what}\n")
    sys.stdout.writelines(f"wrong: {line}\n" for line in found.wrong)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
