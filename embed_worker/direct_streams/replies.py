"""Writes the replies of a direct stream, and survives a gateway that does not read them."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from io import BufferedWriter

from common.frames import framed
from protos.y26hkx.v1 import embed_pb2 as pb
from worker_runtime.engine_process.held_writer import HeldWriter

WRITE_BYTES = 1 << 16

log = logging.getLogger(__name__)


class DirectReplies:
    """Called on any thread, the model's too, which no gateway may stop: if a write fails, or takes
    longer than the connection's time limit, the connection ends and the stream's thread notices.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._writer = HeldWriter(BufferedWriter(connection.makefile("wb", 0), WRITE_BYTES))
        # Whether something could not be sent.
        self.is_broken = False

    def send(self, replies: pb.EmbedReplies) -> None:
        with self._breaking():
            self._writer.write(framed(replies.SerializeToString()))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send everything of the `with` block in one write at its end."""
        self._writer.hold()
        try:
            yield
        finally:
            with self._breaking():
                self._writer.release()

    def close(self) -> None:
        """Send what is kept; nothing is sent later."""
        with self._breaking():
            self._writer.close()

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.is_broken:
                self.is_broken = True
                log.info("the replies of a direct stream cannot be written: %s", error)
            # Where it has ended already there is nothing to do.
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
