"""The settings that the supervisor reads from the environment and .env.

These are addresses, ports, and a few settings that its summary shows. It does without pydantic to
stay small; each service validates its own settings.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.address import Address
from common.deprecated_settings import translate
from common.folders import cache_folder_of, models_folder_of
from common.loopback import is_loopback

CERTIFICATE_FILES = ("WORKER_TLS_CA", "WORKER_TLS_CERT", "WORKER_TLS_KEY")


class SettingsError(ValueError):
    """A setting is invalid; the message names it."""


@dataclass(frozen=True)
class StackSettings:
    """The settings of the stack, as all its services will read them.

    Args:
        inherited: the environment for the services, except for secrets that they do not need.
        values: environment over .env, by upper-case name, with deprecated variables translated;
            for look-ups, not for the services.
        deprecated: a sentence about each deprecated variable among them.
        host: GATEWAY_HOST, the address of the API.
        port: GATEWAY_PORT; 0 for a free one.
        socket: GATEWAY_SOCKET, a Unix socket instead of host and port; empty: none.
        tls_certificate: GATEWAY_TLS_CERT; empty: plain HTTP.
        ollama_port: OLLAMA_COMPAT_PORT, a second port of the API; 0: none.
        chat_port: CHAT_WORKER_PORT; 0 for a free one.
        embed_port: EMBED_WORKER_PORT; 0 for a free one.
        chat_workers: CHAT_WORKERS, if set: these are used, and none is started.
        embed_workers: EMBED_WORKERS, the same.
        exit_with_parent: EXIT_WITH_PARENT; end when stdin is closed.
    """

    inherited: Mapping[str, str] = field(repr=False)
    values: Mapping[str, str] = field(repr=False)
    deprecated: tuple[str, ...]
    host: str
    port: int
    socket: str
    tls_certificate: str
    ollama_port: int
    chat_port: int
    embed_port: int
    chat_workers: str | None
    embed_workers: str | None
    exit_with_parent: bool

    @classmethod
    def read(cls, options: Mapping[str, str]) -> "StackSettings":
        """Settings of this process; `options` (by variable name) win over the environment.

        Raises:
            SettingsError: a port is invalid.
        """
        own = dict(os.environ)  # noqa: TID251 - settings.py is where the environment is read
        inherited = {**own, **options}
        given = {name.upper(): value for name, value in {**dotenv(), **inherited}.items()}
        translation = translate(given)
        values = {**given, **translation.values}
        return cls(
            inherited=inherited,
            values=values,
            deprecated=translation.notes,
            host=values.get("GATEWAY_HOST", "127.0.0.1"),
            port=_port(values, "GATEWAY_PORT", 8001),
            socket=values.get("GATEWAY_SOCKET", ""),
            tls_certificate=values.get("GATEWAY_TLS_CERT", ""),
            ollama_port=_port(values, "OLLAMA_COMPAT_PORT", 0),
            chat_port=_port(values, "CHAT_WORKER_PORT", 0),
            embed_port=_port(values, "EMBED_WORKER_PORT", 0),
            chat_workers=values.get("CHAT_WORKERS"),
            embed_workers=values.get("EMBED_WORKERS"),
            exit_with_parent=is_on(values.get("EXIT_WITH_PARENT", "")),
        )

    @property
    def reached_at(self) -> str:
        """The host by which this machine reaches the gateway."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)

    def address(self, port: int | None = None) -> Address:
        """Where this machine reaches the gateway.

        Args:
            port: of the gateway, where the settings leave that open.
        """
        chosen = self.port if port is None else port
        return Address(self.reached_at, chosen, self.socket, self.tls_certificate)

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can call the gateway."""
        return bool(self.socket) or is_loopback(self.host)

    @property
    def worker_certificates(self) -> tuple[str, str, str] | None:
        """Files of authority, certificate and key, for calls to a worker of this machine that
        requires them, because it is off loopback."""
        host = self.values.get("WORKER_HOST", "127.0.0.1")
        files = [self.values.get(name, "") for name in CERTIFICATE_FILES]
        if is_loopback(host) or not all(files):
            return None
        authority, certificate, key = files
        return authority, certificate, key

    @property
    def has_console(self) -> bool:
        return is_on(self.values.get("CONSOLE", "on"))

    @property
    def own_folder(self) -> Path:
        """The folder for what commands and servers of this user tell each other."""
        named = self.values.get("MEMORY_LEARNT_DIR")
        return Path(named) if named else cache_folder_of(self.inherited)

    @property
    def models_dir(self) -> Path:
        named = self.values.get("MODELS_DIR")
        return (Path(named) if named else models_folder_of(self.values)).resolve()


def dotenv() -> dict[str, str]:
    """The variables of the .env file in this folder.

    Raises:
        SettingsError: it is no text in UTF-8.
    """
    if not Path(".env").is_file():
        return {}
    # The same parser that pydantic-settings uses in the services.
    from dotenv import dotenv_values

    try:
        return {name: value or "" for name, value in dotenv_values(".env").items()}
    except UnicodeDecodeError:
        raise SettingsError(
            ".env is no UTF-8 text, perhaps UTF-16 as PowerShell writes it; save it as UTF-8"
        ) from None


def is_on(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "on"}


def _port(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name, "").strip()
    if not text:
        return default
    if not text.isdigit() or int(text) > 65535:
        raise SettingsError(f"{name}={text} is not a port (0 to 65535)")
    return int(text)


def wants_color() -> bool:
    """Whether this user wants colors on a terminal: https://no-color.org."""
    return not os.environ.get("NO_COLOR")  # noqa: TID251 - settings.py is where the environment is read


def api_key(settings: StackSettings) -> str:
    """The key with which commands call the server; empty: none is known."""
    keys = settings.values.get("Y26HKX_API_KEY") or settings.values.get("API_KEYS", "")
    return keys.partition(",")[0].strip()
