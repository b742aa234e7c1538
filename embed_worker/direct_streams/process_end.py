"""The encoder process's end of all direct streams; `embed.proto` describes their messages."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from common.error_texts import ErrorText
from common.errors import Overloaded
from embed_worker.direct_streams.stream import DirectStream
from embed_worker.pipe_messages import Listen
from embed_worker.request_handler import RequestHandler
from worker_runtime.engine_process.host import Outbox

MOST_STREAMS = 16


class DirectStreams:
    """The streams that are open.

    Args:
        cancel: removes a call from the queue.
    """

    def __init__(
        self, request_handler: RequestHandler, cancel: Callable[[int], None], outbox: Outbox
    ) -> None:
        self._request_handler = request_handler
        self._cancel = cancel
        self._outbox = outbox
        self._open: dict[int, DirectStream] = {}

    def open(self, id: int, listen: Listen) -> None:
        """Begin a stream, which is the worker's call `id`."""
        if len(self._open) >= MOST_STREAMS:
            refusal = ErrorText("too_many_direct_streams", most=MOST_STREAMS)
            self._outbox.ended(id, Overloaded(refusal, retry_after_s=1))
            return
        stream = DirectStream(id, listen, self._request_handler, self._cancel, self._outbox)
        self._open[id] = stream
        thread = threading.Thread(target=self._run, args=(stream,), name="direct", daemon=True)
        thread.start()

    def end(self, secret: bytes) -> None:
        """Let the stream with this secret take no more calls."""
        for stream in list(self._open.values()):
            if stream.secret == secret:
                stream.end()

    def cancel(self, id: int) -> None:
        """Break off the stream that is the worker's call `id`, if it is one."""
        if (stream := self._open.get(id)) is not None:
            stream.break_off()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send the answers of a batch in one write for each stream."""
        with contextlib.ExitStack() as held:
            for stream in list(self._open.values()):
                if stream.replies is not None:
                    held.enter_context(stream.replies.together())
            yield

    def _run(self, stream: DirectStream) -> None:
        try:
            stream.run()
        finally:
            del self._open[stream.id]
            self._outbox.answer(stream.id, stream.take_served())
