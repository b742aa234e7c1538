"""Ollama's chat and generate requests as `GenerateRequest`."""

from collections import defaultdict, deque
from collections.abc import Iterator

import orjson

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from common.sampling_ranges import MAX_TOKENS
from gateway.custom_models import CustomModel
from gateway.schemas.ollama.chat import GenerationFields, Message, OllamaChatRequest, Tool
from gateway.schemas.ollama.generate import GenerateRequest
from gateway.schemas.ollama.options import Options
from gateway.translate.formats import schema_constraint
from gateway.translate.request_parts import as_tool, not_text
from gateway.translate.sampling import ANY_SEED, ChatDefaults
from protos.y26hkx.v1 import chat_pb2

MAX_TURNS = 16_384
# The name that levels of thinking have elsewhere.
EFFORTS = {"max": "high"}
Turn = tuple[str, str]


def options_of(body: GenerationFields, custom: CustomModel | None) -> Options:
    """The options of the request, over those of the custom model."""
    own = body.options or Options()
    return own if custom is None else own.over(custom.options)


def chat_request(
    body: OllamaChatRequest, custom: CustomModel | None, options: Options, defaults: ChatDefaults
) -> chat_pb2.GenerateRequest:
    """
    Args:
        body: with the id of its model.
    Raises:
        UnsupportedParameter: the messages have images.
        InvalidRequest: the schema of the format is too large.
    """
    request = _request(body, options, defaults)
    messages = [*_before(custom, body.messages or []), *_messages(body.messages or [])]
    request.conversation.messages.extend(messages)
    request.conversation.tools.extend(map(_tool, body.tools or []))
    request.conversation.template_kwargs.update(_thinking(body.think))
    return request


def generate_request(
    body: GenerateRequest, turns: list[Turn] | None, options: Options, defaults: ChatDefaults
) -> chat_pb2.GenerateRequest:
    """
    Args:
        turns: the conversation, unless the prompt is raw or there is a suffix.
    Raises the same as `chat_request`.
    """
    if body.images:
        raise not_text("image", "images")
    request = _request(body, options, defaults)
    if turns is not None:
        request.conversation.messages.extend(
            chat_pb2.Message(role=role, content=content) for role, content in turns
        )
        request.conversation.template_kwargs.update(_thinking(body.think))
    elif body.suffix:
        request.infill.prefix, request.infill.suffix = body.prompt or "", body.suffix
    else:
        request.prompt, request.parse_special = body.prompt or "", True
    return request


def conversation_of(body: GenerateRequest, custom: CustomModel | None) -> list[Turn]:
    """The roles and texts of the conversation that ends with `prompt`.

    Raises:
        InvalidRequest: the context is not one that this server returned.
    """
    turns = _turns(body.context or [])
    if system := body.system or (custom.system if custom else ""):
        turns = [("system", system), *(turn for turn in turns if turn[0] != "system")]
    return [*turns, ("user", body.prompt or "")]


def context_of_turns(turns: list[Turn]) -> list[int]:
    """A conversation as numbers, which clients send back without looking at them."""
    return list(orjson.dumps(turns))


def _turns(context: list[int]) -> list[Turn]:
    try:
        found = orjson.loads(bytes(context)) if context else []
        turns = [(role, content) for role, content in found][:MAX_TURNS]
    except (ValueError, TypeError):
        found, turns = None, []
    known = all(
        role in ("system", "user", "assistant") and isinstance(content, str)
        for role, content in turns
    )
    if not isinstance(found, list) or not known:
        raise InvalidRequest(
            ErrorText("context_foreign"),
            param="context",
            suggestions=(ErrorText("leave_out", name="context"),),
        )
    return turns


def _request(
    body: GenerationFields, options: Options, defaults: ChatDefaults
) -> chat_pb2.GenerateRequest:
    request = chat_pb2.GenerateRequest(
        model=body.model_id,
        sampling=_sampling(options, defaults),
        max_tokens=_token_limit(options, defaults),
        stop=options.stops,
        n=1,
        constraint=_constraint(body),
        keep_alive_s=body.keep_alive,
    )
    if body.logprobs:
        request.top_logprobs = body.top_logprobs or 0
    return request


def _sampling(options: Options, defaults: ChatDefaults) -> chat_pb2.Sampling:
    asked = chat_pb2.Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=None if options.top_k is None else max(options.top_k, 0),
        min_p=options.min_p,
        repetition_penalty=options.repeat_penalty,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        seed=None if options.seed in (None, ANY_SEED) else options.seed % 2**64,
    )
    return defaults.complete(asked)


def _token_limit(options: Options, defaults: ChatDefaults) -> int | None:
    """As many tokens as the context leaves (None) where Ollama's clients ask for no other limit."""
    asked = options.num_predict
    if asked is None:
        return defaults.models_limit
    return asked if 0 < asked <= MAX_TOKENS else None


def _constraint(body: GenerationFields) -> chat_pb2.Constraint | None:
    if not body.format:
        return None
    if body.format == "json":
        return chat_pb2.Constraint(json_object=True)
    return schema_constraint(body.format, "format")


def _thinking(think: bool | str | None) -> dict[str, str | bool]:
    if think is None or isinstance(think, bool):
        return {} if think is None else {"enable_thinking": think}
    return {"enable_thinking": True, "reasoning_effort": EFFORTS.get(think, think)}


def _before(custom: CustomModel | None, messages: list[Message]) -> Iterator[chat_pb2.Message]:
    """What a custom model puts before the messages of a request."""
    if custom is None:
        return
    if custom.system and not (messages and messages[0].role == "system"):
        yield chat_pb2.Message(role="system", content=custom.system)
    for example in custom.messages:
        yield chat_pb2.Message(role=example.role, content=example.content)


def _messages(messages: list[Message]) -> Iterator[chat_pb2.Message]:
    open_calls = _OpenCalls()
    for at, message in enumerate(messages):
        if message.images:
            raise not_text("image", f"messages[{at}].images")
        calls = [
            chat_pb2.ToolCall(
                id=call.id or f"call_{at}_{number}",
                name=call.function.name,
                arguments=call.function.arguments,
            )
            for number, call in enumerate(message.tool_calls or [])
        ]
        open_calls.add(calls)
        name = message.tool_name or message.name or ""
        answered = ""
        if message.role == "tool":
            answered = message.tool_call_id or open_calls.answered(name)
        yield chat_pb2.Message(
            role=message.role,
            content=message.content or "",
            name=name,
            tool_calls=calls,
            tool_call_id=answered,
            reasoning=message.thinking or "",
        )


class _OpenCalls:
    """Calls without a result yet: a result names its tool, or comes in the order of the calls."""

    def __init__(self) -> None:
        self._all: deque[str] = deque()
        self._by_name: dict[str, deque[str]] = defaultdict(deque)
        self._done: set[str] = set()

    def add(self, calls: list[chat_pb2.ToolCall]) -> None:
        for call in calls:
            self._all.append(call.id)
            self._by_name[call.name].append(call.id)

    def answered(self, name: str) -> str:
        """The id of the call whose result comes now; empty if none is open."""
        for queue in (self._by_name.get(name, deque()), self._all):
            while queue:
                call_id = queue.popleft()
                if call_id not in self._done:
                    self._done.add(call_id)
                    return call_id
        return ""


def _tool(tool: Tool) -> chat_pb2.Tool:
    function = tool.function
    return as_tool(function.name, function.description, function.parameters, None)
