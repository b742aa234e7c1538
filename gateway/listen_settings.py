"""Where the gateway listens: a port or a Unix socket, and whether with TLS."""

import os
import sys
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from common.loopback import is_loopback
from gateway.key_settings import KeySettings
from gateway.transport.tls import server_context

# macOS takes 104 bytes with the one that ends them, Linux 108.
MAX_SOCKET_PATH = 103


class ListenSettings(KeySettings):
    host: str = Field(
        default="127.0.0.1",
        validation_alias="GATEWAY_HOST",
        description="Address to listen on; off loopback API keys are required.",
    )
    port: int = Field(
        default=8001, ge=0, le=65535, validation_alias="GATEWAY_PORT", description="HTTP port."
    )
    ollama_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias="OLLAMA_COMPAT_PORT",
        description=(
            "A second HTTP port with all the same, for programs that look for Ollama at 11434; "
            "0: none."
        ),
    )
    socket: Path | None = Field(
        default=None,
        validation_alias="GATEWAY_SOCKET",
        description=(
            "Unix socket to listen on instead of a port, for processes of this user and group, "
            "such as a proxy; not on Windows."
        ),
    )
    https_cert: Path | None = Field(
        default=None,
        validation_alias="GATEWAY_TLS_CERT",
        description=(
            "PEM file of a certificate and those that signed it: the port then speaks HTTPS. "
            "Changed files are read again."
        ),
    )
    https_key: Path | None = Field(
        default=None,
        validation_alias="GATEWAY_TLS_KEY",
        description="PEM file of that certificate's private key, without a password.",
    )

    @field_validator("socket")
    @classmethod
    def _can_be_a_socket(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        if sys.platform == "win32":
            raise ValueError("Unix sockets are not for Windows: use GATEWAY_PORT")
        if len(os.fsencode(value)) > MAX_SOCKET_PATH:
            raise ValueError(f"a path of more than {MAX_SOCKET_PATH} bytes names no socket")
        return value

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if not self.is_local and not self.has_keys:
            raise ValueError(
                f"GATEWAY_HOST={self.host} is open to others: set API_KEYS or API_KEYS_FILE"
            )
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.ollama_port and self.ollama_port == self.port:
            raise ValueError(f"OLLAMA_COMPAT_PORT={self.port} is GATEWAY_PORT already")
        for name, value in (
            ("OLLAMA_COMPAT_PORT", self.ollama_port),
            ("GATEWAY_TLS_CERT", self.https_cert),
        ):
            if self.socket is not None and value:
                raise ValueError(f"{name} is for a port, and GATEWAY_SOCKET replaces that")
        return self

    @model_validator(mode="after")
    def _have_a_certificate(self) -> Self:
        if (self.https_cert is None) != (self.https_key is None):
            raise ValueError("HTTPS needs both files: GATEWAY_TLS_CERT and GATEWAY_TLS_KEY")
        if self.https_cert is not None and self.https_key is not None:
            try:
                server_context(self.https_cert, self.https_key)
            except OSError as error:
                raise ValueError(
                    f"no certificate in {self.https_cert} (GATEWAY_TLS_CERT) with its key in "
                    f"{self.https_key} (GATEWAY_TLS_KEY): {error}"
                ) from None
        return self

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can call."""
        return self.socket is not None or is_loopback(self.host)
