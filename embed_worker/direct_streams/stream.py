"""One direct stream in the encoder process: a thread reads calls, tokenizes and queues them.

Only answers go back: what fails is left to the worker, which the gateway asks then, and where it
fails again, is told and logged.
"""

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable

from google.protobuf.message import DecodeError

from common.direct_stream import MOST_CALL_BYTES
from common.errors import InvalidRequest, ServingError
from common.frames import FrameSplitter
from embed_worker.direct_streams.connection import listen_for
from embed_worker.direct_streams.replies import DirectReplies
from embed_worker.pipe_messages import EncoderEvent, Listen, Listening, Served, Vectors
from embed_worker.request_handler import RequestHandler
from embed_worker.translate import check_count, to_embed, to_embed_response
from protos.y26hkx.v1 import common_pb2
from protos.y26hkx.v1 import embed_pb2 as pb
from worker_runtime.cache_counts import CacheCounts
from worker_runtime.engine_process.host import FRONT_LIMIT_S, Outbox

# How long the gateway may be silent, or leave replies unread. It ends a stream without calls much
# sooner.
SILENT_S = 2.0
# How often the worker is told what was served.
REPORT_EVERY_S = 1.0
READ_BYTES = 1 << 16

log = logging.getLogger(__name__)
# Of calls in the queue; the worker's own are positive.
_call_ids = itertools.count(-1, -1)


class DirectStream:
    """One stream, and its calls that are not answered.

    Args:
        id: of the worker's call.
        cancel: as for `DirectStreams`.
    """

    def __init__(
        self,
        id: int,
        listen: Listen,
        request_handler: RequestHandler,
        cancel: Callable[[int], None],
        outbox: Outbox,
    ) -> None:
        self.id = id
        self.secret = listen.secret
        # Set when the gateway has connected.
        self.replies: DirectReplies | None = None
        self._model = common_pb2.ServedModel.FromString(listen.served_model)
        self._max_inputs = listen.max_inputs
        self._request_handler = request_handler
        self._cancel = cancel
        self._outbox = outbox
        self._connection: socket.socket | None = None
        # The gateway's ids of open calls by those in the queue.
        self._calls: dict[int, int] = {}
        self._changed = threading.Condition()
        self._served = Served()
        self._reported_s = time.monotonic()
        # When it is broken off, although the gateway has not ended its side.
        self._ends_at_s: float | None = None
        self._worker_has_left = False

    def run(self) -> None:
        """Serve until the gateway has ended its side and all its calls are answered."""
        try:
            with listen_for(self.secret, self._tell_port) as connection:
                self._begin(connection)
                self._serve(connection)
                with self._changed:
                    self._changed.wait_for(lambda: not self._calls or self._is_broken)
        except (OSError, ValueError, DecodeError) as error:
            log.info("a direct stream broke: %s", error)
        finally:
            self._cancel_all()
            if self.replies is not None:
                self.replies.close()

    def end(self) -> None:
        """Take no more calls."""
        with self._changed:
            if self._ends_at_s is None:
                self._ends_at_s = time.monotonic() + SILENT_S
                self._tell_the_end()

    def break_off(self) -> None:
        """End at once: nobody waits for its calls."""
        self._cancel_all()
        with self._changed:
            # The gateway may not have connected yet.
            self._worker_has_left = True
            connection = self._connection
        if connection is not None:
            # It may have ended meanwhile.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def take_served(self) -> Served:
        """What was answered since the last time."""
        with self._changed:
            served, self._served = self._served, Served()
        return served

    # Called by the request handler and the queue, on whichever thread has a result.

    def answer(self, call_id: int, found: EncoderEvent, /) -> None:
        assert isinstance(found, Vectors)
        self._reply(call_id, found)

    def ended(self, call_id: int, error: ServingError, /) -> None:
        self._reply(call_id, None)

    def _tell_port(self, port: int) -> None:
        self._outbox.event(self.id, Listening(port))

    def _begin(self, connection: socket.socket) -> None:
        connection.settimeout(SILENT_S)
        with self._changed:
            if self._worker_has_left:
                raise ConnectionAbortedError("the worker has left it")
            self._connection, self.replies = connection, DirectReplies(connection)
            if self._ends_at_s is not None:
                self._tell_the_end()

    def _serve(self, connection: socket.socket) -> None:
        """Take calls until the gateway ends its side.

        Raises:
            OSError: the connection broke, or the gateway was silent.
            ValueError, DecodeError: what it sent are no calls.
        """
        assert self.replies is not None
        splitter = FrameSplitter(MOST_CALL_BYTES)
        while chunk := self._read(connection):
            # Answers from the cache are there at once.
            with self.replies.together():
                for payload in splitter.feed(chunk):
                    for call in pb.EmbedCalls.FromString(payload).calls:
                        self._take(call)
            self._report()

    def _read(self, connection: socket.socket) -> bytes:
        while self._ends_at_s is None or time.monotonic() < self._ends_at_s:
            # Whoever is silent is asked to end; that has a time limit of its own.
            with contextlib.suppress(TimeoutError):
                return connection.recv(READ_BYTES)
            if not self._calls:
                self.end()
        raise TimeoutError("the gateway does not end its side")

    def _take(self, call: pb.EmbedCall) -> None:
        if call.cancel:
            self._drop(call.id)
            return
        call_id = next(_call_ids)
        with self._changed:
            self._calls[call_id] = call.id
        with self._outbox.watchdog.step(f"direct stream {self.id}", FRONT_LIMIT_S):
            try:
                check_count(len(call.request.inputs), self._max_inputs, "input")
                request = to_embed(call.request)
            except InvalidRequest as error:
                self.ended(call_id, error)
            else:
                self._request_handler.begin(call_id, request, self)

    def _cancel_all(self) -> None:
        with self._changed:
            left, self._calls = list(self._calls), {}
            self._changed.notify()
        for call_id in left:
            self._cancel(call_id)

    def _drop(self, id: int) -> None:
        with self._changed:
            found = [call_id for call_id, theirs in self._calls.items() if theirs == id]
            for call_id in found:
                self._calls.pop(call_id, None)
        for call_id in found:
            self._cancel(call_id)

    def _reply(self, call_id: int, found: Vectors | None) -> None:
        id = self._calls.get(call_id)
        if id is None or self.replies is None:
            return
        response = None if found is None else to_embed_response(found, self._model)
        self.replies.send(pb.EmbedReplies(replies=[pb.EmbedReply(id=id, response=response)]))
        # Only now: after the last reply the connection ends.
        with self._changed:
            self._calls.pop(call_id, None)
            if found is not None and not self.replies.is_broken:
                self._count(found)
            self._changed.notify()

    @property
    def _is_broken(self) -> bool:
        return self.replies is not None and self.replies.is_broken

    def _tell_the_end(self) -> None:
        if self.replies is not None:
            self.replies.send(pb.EmbedReplies())

    def _count(self, found: Vectors) -> None:
        served = self._served
        served.n_calls += 1
        served.n_tokens += sum(found.token_counts)
        served.n_cached_tokens += found.n_cached_tokens
        for place, counts in found.caches.items():
            served.caches.setdefault(place, CacheCounts()).add(counts)

    def _report(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._outbox.event(self.id, self.take_served())
