"""The stack of docker-compose.yml under a real engine, in a folder and a project of its own."""

import contextlib
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from tests.running_stack import free_port

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-containers"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
IMAGES = {
    "y26hkx-gateway": "deploy/gateway.Dockerfile",
    "y26hkx-embed-worker": "deploy/embed_worker.Dockerfile",
    "y26hkx-chat-worker": "deploy/chat_worker.Dockerfile",
    "y26hkx": "deploy/all_in_one.Dockerfile",
}
UP_WITHIN_S = 180
# Longer than a request may wait for a worker, and than the worker takes to start.
ANSWER_WITHIN_S = 120


def docker(*arguments: str, cwd: Path = ROOT) -> str:
    """Run docker and return what it prints; a failure is an assertion with its messages."""
    done = subprocess.run(
        ["docker", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
    return done.stdout


@dataclass
class Load:
    """What clients asked and were refused."""

    n_done: int = 0
    failures: list[str] = field(default_factory=list)


class Composed:
    """Args:
    folder: an empty one, for the compose file, .env and the models.
    settings: lines of .env beside the required ones.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self._project = f"y26hkx-test-{folder.name}".lower().replace("_", "-")
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        # What the client trusts: the certificates of this machine, or a file of its own.
        self.trusted: ssl.SSLContext | bool = True
        # What is started; none: all of the file and its profiles.
        self.services: tuple[str, ...] = ()
        shutil.copy(ROOT / "docker-compose.yml", folder)
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        (folder / "models").mkdir()
        needed = {"API_KEYS": KEY, "WORKER_TOKEN": "t" * 64, "Y26HKX_PORT": str(self.port)}
        # Clients of tests ask more than 600 times a minute.
        needed["RATE_LIMIT"] = "none"
        lines = [f"{name}={value}\n" for name, value in {**needed, **settings}.items()]
        (folder / ".env").write_text("".join(lines))

    def __enter__(self) -> Self:
        up = ("up", "--detach", "--no-build", "--wait", "--wait-timeout", f"{UP_WITHIN_S}")
        try:
            self.compose(*up, *self.services)
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.compose("down", "--volumes", "--timeout", "20")

    def trust(self, authority: Path) -> None:
        """Let the client trust this certificate, and what it signed, alone."""
        self.trusted = ssl.create_default_context(cafile=authority)

    def compose(self, *arguments: str) -> str:
        return docker("compose", "--project-name", self._project, *arguments, cwd=self._folder)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def kill_processes(self, service: str) -> None:
        """Kill everything in a container; its restart policy brings it back."""
        (container,) = self.containers(service)
        # It is among those that are killed itself, so its exit status says nothing.
        command = ["docker", "exec", container, "sh", "-c", "kill -9 -1"]
        subprocess.run(command, capture_output=True, check=False)

    def post(self, path: str, **body: object) -> httpx.Response:
        url = f"{self.base_url}/v1/{path}"
        return httpx.post(
            url, json=body, headers=AUTHORIZED, timeout=ANSWER_WITHIN_S, verify=self.trusted
        )

    def chat(self) -> httpx.Response:
        messages = [{"role": "user", "content": "How do I unload a model?"}]
        return self.post("chat/completions", messages=messages, max_tokens=8)

    def embed(self, text: str = "a text") -> httpx.Response:
        return self.post("embeddings", input=text)

    def status(self, path: str) -> int:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.base_url + path, headers=AUTHORIZED).status_code
        return 0

    def until(self, path: str, status: int = 200, within_s: float = UP_WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        while (found := self.status(path)) != status:
            assert time.monotonic() < deadline, f"{path} is {found}, not {status}"
            time.sleep(0.2)

    @contextlib.contextmanager
    def under_load(self, n_clients: int = 4) -> Iterator[Load]:
        """Clients that ask one embedding and one answer after the other."""
        load, stop = Load(), threading.Event()

        def client(number: int) -> None:
            while not stop.is_set():
                try:
                    text = f"{number} {time.monotonic()}"
                    reply = self.embed(text) if number % 2 else self.chat()
                    if reply.status_code != httpx.codes.OK:
                        load.failures.append(f"{reply.status_code} {reply.text[:300]}")
                except httpx.HTTPError as error:
                    load.failures.append(repr(error))
                load.n_done += 1

        clients = [threading.Thread(target=client, args=(n,)) for n in range(n_clients)]
        for thread in clients:
            thread.start()
        try:
            yield load
        finally:
            stop.set()
            for thread in clients:
                thread.join()
        assert load.n_done > n_clients, "the clients did nothing"
