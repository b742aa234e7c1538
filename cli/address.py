"""Where the gateway of this machine answers: a port, with or without TLS, or a Unix socket."""

import hashlib
import ssl
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Address:
    """
    Args:
        socket: the path of the Unix socket that replaces the port; empty: none.
        certificate: the PEM file of the gateway's certificate; empty: it speaks plain HTTP.
    """

    host: str
    port: int
    socket: str = ""
    certificate: str = ""

    @property
    def authority(self) -> str:
        """For URLs and the Host header."""
        if self.socket:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.authority}"

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else self.url

    @property
    def name(self) -> str:
        """Of a file that belongs to it."""
        if self.socket:
            return f"socket-{hashlib.sha256(self.socket.encode()).hexdigest()[:16]}"
        return str(self.port)

    @cached_property
    def trust(self) -> ssl.SSLContext | None:
        """For calls with a key: whoever answers must have this certificate, whatever names are in
        it and whoever signed it; None without TLS.

        Raises:
            OSError: the certificate cannot be read.
        """
        if not self.certificate:
            return None
        context = ssl.create_default_context(cafile=self.certificate)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    @cached_property
    def any_answer(self) -> ssl.SSLContext | None:
        """For health checks, which send no secret: a gateway whose certificate has expired, or was
        just renewed, answers all the same."""
        if not self.certificate:
            return None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
