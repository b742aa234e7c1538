"""Converts protobuf to the engine's structs and back. Pure functions."""

from collections.abc import Iterable, Sequence

from google.protobuf.struct_pb2 import Struct

from chat_worker import pipe_messages as m
from common.error_texts import ErrorText
from common.errors import InvalidRequest
from protos.y26hkx.v1 import chat_pb2 as pb
from protos.y26hkx.v1 import common_pb2
from worker_runtime.catalog import ModelEntry

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
# The arguments that a request may pass to a model's template: known names with scalar values.
TEMPLATE_KWARGS = frozenset(
    {
        "add_generation_prompt",
        "enable_thinking",
        "reasoning_effort",
        "thinking",
        "thinking_budget",
    }
)
REASONS = {
    "stop": pb.ChoiceEnd.REASON_STOP,
    "length": pb.ChoiceEnd.REASON_LENGTH,
    "tool_calls": pb.ChoiceEnd.REASON_TOOL_CALLS,
}


def to_generate(request: pb.GenerateRequest) -> m.Generate:
    """The engine's request.

    Raises:
        InvalidRequest: the request is not valid.
    """
    return m.Generate(
        input=_input(request),
        sampling=_sampling(request.sampling),
        max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
        stop=list(request.stop),
        n=request.n or 1,
        top_logprobs=request.top_logprobs if request.HasField("top_logprobs") else None,
        ignore_eos=request.ignore_eos,
        echo=request.echo,
        constraint=_constraint(request.constraint),
        cache_salt=request.cache_salt,
    )


def to_conversation(conversation: pb.Conversation) -> m.Conversation:
    """The conversation in the form that templates expect.

    Raises:
        InvalidRequest: a role, a template argument or a required tool is unknown.
    """
    choice = conversation.tool_choice
    tools = [
        m.Tool(t.name, t.description, t.parameters_json or "{}", t.strict)
        for t in conversation.tools
    ]
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidRequest(ErrorText("tools_same_name"), param="tools")
    must_call = choice.mode in (pb.ToolChoice.MODE_REQUIRED, pb.ToolChoice.MODE_NAMED)
    if must_call and (not tools or (choice.name and choice.name not in names)):
        raise InvalidRequest(ErrorText("tool_choice_missing"), param="tool_choice")
    return m.Conversation(
        [_message(i, message) for i, message in enumerate(conversation.messages)],
        _template_kwargs(conversation.template_kwargs),
        tools=[] if choice.mode == pb.ToolChoice.MODE_NONE else tools,
        must_call=must_call,
        must_call_name=choice.name if must_call else "",
        parallel_calls=conversation.parallel_tool_calls
        if conversation.HasField("parallel_tool_calls")
        else True,
    )


def to_events(
    batch: Iterable[m.EngineEvent], entry: ModelEntry, reductions: Sequence[str] = ()
) -> list[pb.GenerateEvent]:
    """The stream's messages for events that are sent together: deltas of a choice are merged.

    Clients read a delta as thinking, then text, then calls: parts in another order are not merged.
    """
    packed: list[pb.GenerateEvent] = []
    deltas: dict[int, pb.Delta] = {}
    for event in batch:
        if not isinstance(event, m.Delta):
            deltas.clear()
            packed.append(_event(event, entry, reductions))
            continue
        earlier = deltas.get(event.choice)
        if earlier is not None and _follows(event, earlier):
            earlier.MergeFrom(_delta(event, earlier))
        else:
            packed.append(pb.GenerateEvent(delta=_delta(event)))
            deltas[event.choice] = packed[-1].delta
    return packed


def _input(
    request: pb.GenerateRequest,
) -> m.Conversation | m.Prompt | m.PromptTokens | m.Infill:
    match request.WhichOneof("input"):
        case "conversation":
            return to_conversation(request.conversation)
        case "prompt":
            return m.Prompt(request.prompt, request.parse_special)
        case "prompt_tokens":
            return m.PromptTokens(list(request.prompt_tokens.ids))
        case "infill":
            asked = request.infill
            files = [m.InfillFile(file.name, file.text) for file in asked.files]
            return m.Infill(asked.prefix, asked.suffix, asked.begun, files)
        case _:
            raise InvalidRequest(ErrorText("nothing_to_answer"), param="messages")


def _message(index: int, message: pb.Message) -> m.Message:
    if message.role not in ROLES:
        raise InvalidRequest(
            ErrorText("role_unknown", roles=", ".join(sorted(ROLES))),
            param=f"messages[{index}].role",
        )
    return m.Message(
        role=message.role,
        content=message.content,
        name=message.name,
        tool_calls=[m.ToolCall(c.id, c.name, c.arguments) for c in message.tool_calls],
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def _template_kwargs(kwargs: Struct) -> dict[str, str | bool | int | float]:
    plain: dict[str, str | bool | int | float] = {}
    for name, value in kwargs.items():
        if name not in TEMPLATE_KWARGS or not isinstance(value, str | bool | int | float):
            raise InvalidRequest(
                ErrorText("template_kwargs_wrong", names=", ".join(sorted(TEMPLATE_KWARGS))),
                param="chat_template_kwargs",
            )
        plain[name] = int(value) if isinstance(value, float) and value.is_integer() else value
    return plain


def _constraint(constraint: pb.Constraint) -> m.ConstraintSpec | None:
    match constraint.WhichOneof("kind"):
        case None:
            return None
        case "json_object":
            return m.ConstraintSpec("json_object")
        case kind:
            return m.ConstraintSpec(kind, getattr(constraint, kind))


def _sampling(sampling: pb.Sampling) -> m.Sampling:
    given = {
        field.name: value for field, value in sampling.ListFields() if field.name != "logit_bias"
    }
    return m.Sampling(**given, logit_bias=dict(sampling.logit_bias))


def _event(event: m.EngineEvent, entry: ModelEntry, reductions: Sequence[str]) -> pb.GenerateEvent:
    match event:
        case m.Queued(position):
            return pb.GenerateEvent(queued=pb.Queued(position=position, reason="queue"))
        case m.Started():
            return pb.GenerateEvent(started=_started(event, entry, reductions))
        case m.Finished():
            return pb.GenerateEvent(finished=_finished(event))
        case _:
            raise TypeError(f"{type(event).__name__} is no event of a generation")


def _started(event: m.Started, entry: ModelEntry, reductions: Sequence[str]) -> pb.Started:
    return pb.Started(
        model=common_pb2.ServedModel(
            id=entry.id, backend=entry.backend, fingerprint=entry.fingerprint
        ),
        prompt_tokens=event.prompt_tokens,
        cached_tokens=event.cached_tokens,
        trimmed_tokens=event.trimmed_tokens,
        trimmed_messages=event.trimmed_messages,
        ignored=event.ignored,
        reductions=reductions,
    )


def _delta(event: m.Delta, earlier: pb.Delta | None = None) -> pb.Delta:
    """The delta, or what must be merged into `earlier`: merging replaces scalars, appends lists."""
    return pb.Delta(
        choice=event.choice,
        text=event.text if earlier is None else earlier.text + event.text,
        reasoning=event.reasoning if earlier is None else earlier.reasoning + event.reasoning,
        tool_calls=[
            pb.ToolCallDelta(
                index=piece.index, id=piece.id, name=piece.name, arguments=piece.arguments
            )
            for piece in event.calls
        ],
        n_tokens=event.n_tokens + (0 if earlier is None else earlier.n_tokens),
        logprobs=[
            pb.TokenLogprob(chosen=_candidate(one.chosen), top=map(_candidate, one.top))
            for one in event.logprobs
        ],
    )


def _follows(delta: m.Delta, earlier: pb.Delta) -> bool:
    """Whether merging keeps the order: all of `delta` still comes after all of `earlier`."""
    if delta.reasoning and earlier.text:
        return False
    return not (earlier.tool_calls and (delta.reasoning or delta.text))


def _candidate(candidate: m.Candidate) -> pb.Candidate:
    return pb.Candidate(token=candidate.token, text=candidate.text, logprob=candidate.logprob)


def _finished(event: m.Finished) -> pb.Finished:
    return pb.Finished(
        choices=[
            pb.ChoiceEnd(
                choice=end.choice, reason=REASONS[end.reason], stop_sequence=end.stop_sequence
            )
            for end in event.choices
        ],
        usage=common_pb2.Usage(
            prompt_tokens=event.prompt_tokens,
            completion_tokens=event.completion_tokens,
            cached_tokens=event.cached_tokens,
            reasoning_tokens=event.reasoning_tokens,
        ),
        timings=pb.Timings(
            queue_s=event.queue_s, prefill_s=event.prefill_s, decode_s=event.decode_s
        ),
    )
