"""A conversation with a model: what was said, and one more answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.commands.failure import CommandError
from cli.commands.server import Events, Server

# An answer that came at once says nothing about speed.
LEAST_S = 0.05


@dataclass(frozen=True)
class Spoken:
    """An answer.

    Args:
        tokens_per_s: after the first token; 0: unknown.
        trimmed_tokens: how much of the conversation did not fit.
        reduced: what the model gave up to fit into memory.
        was_stopped: Ctrl-C ended it.
        problem: why it broke off; empty: it did not.
    """

    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    first_token_s: float
    tokens_per_s: float
    trimmed_tokens: int
    reduced: str
    was_stopped: bool
    problem: str


class Conversation:
    """
    Args:
        model: the id of the model that answers.
        system: the system prompt; empty: none.
        options: more fields of each request.
    """

    def __init__(self, server: Server, model: str, system: str, options: dict[str, Any]) -> None:
        self._server = server
        self.model = model
        self._options = options
        self.restart(system)

    def restart(self, system: str) -> None:
        """Forget what was said, and take another system prompt."""
        self.system = system
        self._messages: list[dict[str, str]] = []

    def ask(self, text: str, on_piece: Callable[[str], None]) -> Spoken:
        """Ask, and return the answer; Ctrl-C ends it early.

        Args:
            on_piece: called with each piece of the answer as it comes.
        Raises:
            CommandError: there is no answer. What was asked is then not part of the conversation.
        """
        asked = [*self._messages, {"role": "user", "content": text}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "model": self.model,
            "messages": [*system, *asked],
            "stream_options": {"include_usage": True},
            **self._options,
        }
        answer = _Answer(self.model, on_piece)
        try:
            with self._server.events("/v1/chat/completions", body) as events:
                answer.take(events)
        except KeyboardInterrupt:
            answer.was_stopped = True
        except CommandError as error:
            if not answer.pieces:
                raise
            answer.problem = str(error)
        spoken = answer.spoken()
        if spoken.text:
            self._messages = [*asked, {"role": "assistant", "content": spoken.text}]
        return spoken


class _Answer:
    def __init__(self, model: str, on_piece: Callable[[str], None]) -> None:
        self._model = model
        self._on_piece = on_piece
        self.pieces: list[str] = []
        self.was_stopped = False
        self.problem = ""
        self._usage: dict[str, Any] = {}
        self._headers: dict[str, str] = {}
        self._began_s = time.perf_counter()
        self._first_s = self._last_s = 0.0

    def take(self, events: Events) -> None:
        self._headers = dict(events.headers)
        for event in events:
            self._usage = event.get("usage") or self._usage
            self._model = event.get("model", self._model)
            for choice in event.get("choices", ()):
                if piece := choice.get("delta", {}).get("content"):
                    self._last_s = time.perf_counter()
                    self._first_s = self._first_s or self._last_s
                    self.pieces.append(piece)
                    self._on_piece(piece)

    def spoken(self) -> Spoken:
        n_tokens = int(self._usage.get("completion_tokens", 0))
        text = "".join(self.pieces)
        return Spoken(
            text=text,
            model=self._model,
            prompt_tokens=int(self._usage.get("prompt_tokens", 0)),
            completion_tokens=n_tokens,
            first_token_s=round(max(self._first_s - self._began_s, 0), 3),
            tokens_per_s=self._speed(n_tokens, text),
            trimmed_tokens=int(self._headers.get("x-trimmed-tokens", 0)),
            reduced=self._headers.get("x-y26hkx-reduced", ""),
            was_stopped=self.was_stopped,
            problem=self.problem,
        )

    def _speed(self, n_tokens: int, text: str) -> float:
        """Tokens per second after the first piece, whose tokens took a time that is not known."""
        elapsed_s = self._last_s - self._first_s
        if elapsed_s < LEAST_S:
            return 0.0
        return round(n_tokens * (1 - len(self.pieces[0]) / len(text)) / elapsed_s, 1)
