"""The running server, as the commands ask it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from cli.commands.failure import CommandError
from cli.settings import SettingsError, StackSettings, api_key

# Loads take their time; the server itself bounds them.
TIMEOUT = httpx.Timeout(None, connect=5)
ALIVE_WITHIN_S = 2.0
NOT_FOUND = "model_not_found"
ASK_START = "start it: y26hkx serve"


class Server:
    """
    Args:
        address: such as http://127.0.0.1:8001; None: by the settings.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            settings = StackSettings.read({})
        except SettingsError as error:
            raise CommandError(str(error)) from error
        local = settings.address()
        self.address = (address or str(local)).rstrip("/")
        key = self.key = api_key(settings)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if address is not None:
            self._http = httpx.Client(base_url=self.address, timeout=TIMEOUT, headers=headers)
            return
        try:
            verify = local.trust or True
        except OSError as error:
            raise CommandError(f"GATEWAY_TLS_CERT cannot be read: {error}") from error
        # Without the environment: a proxy has no way to this machine.
        self._http = httpx.Client(
            base_url=local.url,
            timeout=TIMEOUT,
            headers=headers,
            transport=httpx.HTTPTransport(verify=verify, uds=local.socket or None, trust_env=False),
            trust_env=False,
        )

    def runs(self) -> bool:
        """Whether a server of ours answers there."""
        try:
            reply = self._http.get("/health/live", timeout=ALIVE_WITHIN_S)
        except httpx.HTTPError:
            return False
        return reply.is_success and "x-request-id" in reply.headers

    def is_ready(self) -> bool:
        """Whether it takes requests for models."""
        try:
            return self._http.get("/health/ready", timeout=ALIVE_WITHIN_S).is_success
        except httpx.HTTPError:
            return False

    def model(self, name: str) -> dict[str, Any] | None:
        """The model that `name` means; None if the server has none."""
        try:
            found: dict[str, Any] = self.get(f"/v1/models/{quote(name)}")
        except CommandError as error:
            if error.code != NOT_FOUND:
                raise
            return None
        return found

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", path, body)

    def delete(self, path: str, **query: str) -> Any:
        return self._call("DELETE", path, query=query)

    @contextmanager
    def events(self, path: str, body: dict[str, Any]) -> Iterator["Events"]:
        """The events of a stream.

        Raises:
            CommandError: the server refuses or cannot be reached.
        """
        try:
            with self._http.stream("POST", path, json=body | {"stream": True}) as reply:
                if not reply.is_success:
                    reply.read()
                    raise _refusal(reply)
                yield Events(reply)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        try:
            reply = self._http.request(method, path, json=body, params=query)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not reply.is_success:
            raise _refusal(reply)
        return reply.json()

    def _unreachable(self, error: httpx.HTTPError) -> CommandError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return CommandError(f"no server answers at {self.address}", [ASK_START])
        return CommandError(f"{self.address} stopped answering ({type(error).__name__})")


class Events:
    """The events of a stream, each a JSON object, and the headers of the reply."""

    def __init__(self, reply: httpx.Response) -> None:
        self.headers = reply.headers
        self._lines = reply.iter_lines()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """
        Raises:
            CommandError: the stream breaks off with an error.
        """
        for line in self._lines:
            kind, _, data = line.partition(": ")
            if kind != "data" or data == "[DONE]":
                continue
            event = json.loads(data)
            if "error" in event:
                raise _error(event["error"])
            yield event


def _refusal(reply: httpx.Response) -> CommandError:
    try:
        return _error(reply.json()["error"])
    except (ValueError, KeyError, TypeError):
        return CommandError(f"the server answered with status {reply.status_code}")


def _error(body: dict[str, Any]) -> CommandError:
    suggestions = list(body.get("suggestions", []))
    if body.get("code") == "invalid_api_key":
        suggestions.append("set Y26HKX_API_KEY to a key of this server")
    return CommandError(str(body.get("message", body)), suggestions, str(body.get("code")))
