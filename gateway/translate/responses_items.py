"""Builds the output items of a response; every change of an item is an event."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.schemas.responses_tools import CustomTool
from gateway.translate.chat_reply import logprob
from gateway.translate.responses_tools import OfferedTool, as_input
from protos.y26hkx.v1 import chat_pb2

# An event's name and its fields.
ResponseEvent = tuple[str, dict[str, Any]]
Logprobs = list[dict[str, Any]]

QUEUED, IN_PROGRESS = "queued", "in_progress"
COMPLETED, INCOMPLETE, FAILED, CANCELLED = "completed", "incomplete", "failed", "cancelled"


class Output:
    """The items of thoughts, texts and calls, in the order they come; only the last one grows.

    Args:
        key: is part of the ids of all items, and makes them unique.
        tools: the tools that may be called, by the names that the model knows.
    """

    def __init__(self, key: str, tools: Mapping[str, OfferedTool]) -> None:
        self._key = key
        self._tools = tools
        self._items: list[_Item] = []
        # The logprobs of tokens whose text is still held back.
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
        """End the last item; an output without items gets an empty message.

        Args:
            status: the status of the last item.
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
        if not (isinstance(last, _CallItem) and last.number == piece.index):
            tool = self._tools.get(piece.name)
            is_custom = tool is not None and isinstance(tool.tool, CustomTool)
            kind = _CustomCallItem if is_custom else _FunctionCallItem
            last = kind(piece, tool, self._key, len(self._items))
            yield from self._begin(last)
        if piece.arguments:
            yield from last.grow(piece.arguments)

    def _begin(self, item: "_Item") -> Iterator[ResponseEvent]:
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


class _CallItem:
    """A call of a tool, under the name that the client gave the tool."""

    prefix: str
    type: str

    def __init__(
        self, first: chat_pb2.ToolCallDelta, tool: OfferedTool | None, key: str, index: int
    ) -> None:
        self.number = first.index
        self.status = IN_PROGRESS
        self._id = f"{self.prefix}_{key}{index:04x}"
        self._place = {"item_id": self._id, "output_index": index}
        self._name = first.name if tool is None else tool.tool.name
        self._call = {"type": self.type, "call_id": first.id, "name": self._name}
        if tool is not None and tool.namespace is not None:
            self._call["namespace"] = tool.namespace
        self._arguments: list[str] = []

    def begin(self) -> Iterator[ResponseEvent]:
        yield from ()

    @property
    def _so_far(self) -> str:
        return "".join(self._arguments)


class _FunctionCallItem(_CallItem):
    prefix, type = "fc", "function_call"

    def grow(self, arguments: str) -> Iterator[ResponseEvent]:
        self._arguments.append(arguments)
        yield "response.function_call_arguments.delta", self._place | {"delta": arguments}

    def end(self) -> Iterator[ResponseEvent]:
        fields = {"name": self._name, "arguments": self._so_far}
        yield "response.function_call_arguments.done", self._place | fields

    def shape(self) -> dict[str, Any]:
        return {"id": self._id, "status": self.status, "arguments": self._so_far} | self._call


class _CustomCallItem(_CallItem):
    """A call of a custom tool; its text is known when the arguments are complete."""

    prefix, type = "ctc", "custom_tool_call"

    def grow(self, arguments: str) -> Iterator[ResponseEvent]:
        self._arguments.append(arguments)
        yield from ()

    def end(self) -> Iterator[ResponseEvent]:
        text = as_input(self._so_far)
        yield "response.custom_tool_call_input.delta", self._place | {"delta": text}
        yield "response.custom_tool_call_input.done", self._place | {"input": text}

    def shape(self) -> dict[str, Any]:
        text = "" if self.status == IN_PROGRESS else as_input(self._so_far)
        return {"id": self._id, "status": self.status, "input": text} | self._call


_Item = _TextItem | _FunctionCallItem | _CustomCallItem
