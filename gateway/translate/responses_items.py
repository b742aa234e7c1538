"""The output items of a response while they grow; every change of one is an event."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.translate.chat_reply import logprob
from protos.y26hkx.v1 import chat_pb2

# A name and its fields.
ResponseEvent = tuple[str, dict[str, Any]]
Logprobs = list[dict[str, Any]]

IN_PROGRESS, COMPLETED, INCOMPLETE = "in_progress", "completed", "incomplete"


class Output:
    """What a model thinks, says and calls, in this order or mixed; only the last item grows.

    Args:
        key: makes the items' ids unique.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._items: list[_TextItem | _FunctionCallItem] = []
        # Of tokens whose text is still held back.
        self._logprobs: Logprobs = []

    def add(self, delta: chat_pb2.Delta) -> Iterator[ResponseEvent]:
        self._logprobs += [logprob(item) for item in delta.logprobs]
        if delta.reasoning:
            yield from self._say(_THOUGHT, delta.reasoning, [])
        if delta.text:
            yield from self._say(_ANSWER, delta.text, self._logprobs)
        for piece in delta.tool_calls:
            yield from self._call(piece)
        if delta.text or delta.reasoning or delta.tool_calls:
            self._logprobs = []

    def end(self, status: str) -> Iterator[ResponseEvent]:
        """
        Args:
            status: of the last item.
        """
        if not self._items:
            yield from self._begin(_TextItem(_ANSWER, self._key, 0))
        yield from self._close(status)

    def break_off(self) -> None:
        if self._items and self._items[-1].status == IN_PROGRESS:
            self._items[-1].status = INCOMPLETE

    def shape(self) -> list[dict[str, Any]]:
        return [item.shape() for item in self._items]

    def _say(self, kind: "_Kind", text: str, logprobs: Logprobs) -> Iterator[ResponseEvent]:
        last = self._items[-1] if self._items else None
        if not (isinstance(last, _TextItem) and last.kind is kind):
            last = _TextItem(kind, self._key, len(self._items))
            yield from self._begin(last)
        yield last.grow(text, logprobs)

    def _call(self, piece: chat_pb2.ToolCallDelta) -> Iterator[ResponseEvent]:
        last = self._items[-1] if self._items else None
        if not (isinstance(last, _FunctionCallItem) and last.number == piece.index):
            last = _FunctionCallItem(piece, self._key, len(self._items))
            yield from self._begin(last)
        if piece.arguments:
            yield last.grow(piece.arguments)

    def _begin(self, item: "_TextItem | _FunctionCallItem") -> Iterator[ResponseEvent]:
        yield from self._close(COMPLETED)
        place = {"output_index": len(self._items)}
        self._items.append(item)
        yield "response.output_item.added", place | {"item": item.shape()}
        yield from item.begin()

    def _close(self, status: str) -> Iterator[ResponseEvent]:
        if self._items:
            item = self._items[-1]
            yield from item.end()
            item.status = status
            place = {"output_index": len(self._items) - 1}
            yield "response.output_item.done", place | {"item": item.shape()}


@dataclass(frozen=True)
class _Kind:
    prefix: str
    item: dict[str, Any]
    part: dict[str, Any]
    has_logprobs: bool


_ANSWER = _Kind(
    "msg",
    {"type": "message", "role": "assistant"},
    {"type": "output_text", "annotations": []},
    has_logprobs=True,
)
_THOUGHT = _Kind("rs", {"type": "reasoning", "summary": []}, {"type": "reasoning_text"}, False)


class _TextItem:
    def __init__(self, kind: _Kind, key: str, index: int) -> None:
        self.kind = kind
        self.status = IN_PROGRESS
        self._id = f"{kind.prefix}_{key}{index:04x}"
        self._place = {"item_id": self._id, "output_index": index, "content_index": 0}
        self._text: list[str] = []
        self._logprobs: Logprobs = []

    def begin(self) -> Iterator[ResponseEvent]:
        yield "response.content_part.added", self._place | {"part": self._part()}

    def grow(self, text: str, logprobs: Logprobs) -> ResponseEvent:
        self._text.append(text)
        self._logprobs += logprobs
        fields = {"delta": text} | self._with(logprobs)
        return f"response.{self.kind.part['type']}.delta", self._place | fields

    def end(self) -> Iterator[ResponseEvent]:
        fields = {"text": "".join(self._text)} | self._with(self._logprobs)
        yield f"response.{self.kind.part['type']}.done", self._place | fields
        yield "response.content_part.done", self._place | {"part": self._part()}

    def shape(self) -> dict[str, Any]:
        content = [] if self.status == IN_PROGRESS else [self._part()]
        return {"id": self._id, "status": self.status, "content": content} | self.kind.item

    def _part(self) -> dict[str, Any]:
        return self.kind.part | {"text": "".join(self._text)} | self._with(self._logprobs)

    def _with(self, logprobs: Logprobs) -> dict[str, Any]:
        return {"logprobs": logprobs} if self.kind.has_logprobs else {}


class _FunctionCallItem:
    def __init__(self, first: chat_pb2.ToolCallDelta, key: str, index: int) -> None:
        self.number = first.index
        self.status = IN_PROGRESS
        self._id = f"fc_{key}{index:04x}"
        self._place = {"item_id": self._id, "output_index": index}
        self._function = {"type": "function_call", "call_id": first.id, "name": first.name}
        self._arguments: list[str] = []

    def begin(self) -> Iterator[ResponseEvent]:
        yield from ()

    def grow(self, arguments: str) -> ResponseEvent:
        self._arguments.append(arguments)
        return "response.function_call_arguments.delta", self._place | {"delta": arguments}

    def end(self) -> Iterator[ResponseEvent]:
        fields = {"name": self._function["name"], "arguments": "".join(self._arguments)}
        yield "response.function_call_arguments.done", self._place | fields

    def shape(self) -> dict[str, Any]:
        arguments = "".join(self._arguments)
        return {"id": self._id, "status": self.status, "arguments": arguments} | self._function
