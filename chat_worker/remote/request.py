"""A generation as the JSON body of a request to another OpenAI-compatible server."""

from typing import Any

import msgspec

from chat_worker import pipe_messages as m
from chat_worker.openai_request import openai_messages, sampling_fields
from chat_worker.remote.spec import RemoteSpec
from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter


def path_and_body(request: m.Generate, spec: RemoteSpec) -> tuple[str, dict[str, Any]]:
    """The path below `base_url`, and the body.

    Raises:
        UnsupportedParameter: OpenAI's API has no field for a part of the request.
        InvalidRequest: a schema is not JSON.
    """
    body = {
        "model": spec.model.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling_fields(request.sampling, spec.global_seed),
        **_limits(request),
    }
    match request.input:
        case m.Conversation() as conversation:
            body["messages"] = openai_messages(conversation, spec.default_system_prompt)
            body |= _template(conversation) | _tools(conversation) | _format(request.constraint)
            if request.top_logprobs is not None:
                body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
            return "/chat/completions", body
        case m.Prompt(text):
            return "/completions", body | _bare(request) | {"prompt": text}
        case m.Infill(prefix, suffix, "", []):
            return "/completions", body | _bare(request) | {"prompt": prefix, "suffix": suffix}
        case m.Infill():
            raise UnsupportedParameter(
                ErrorText("not_for_remote", name="input_extra or prompt"), param="input_extra"
            )
        case _:
            raise AssertionError("`forwarding.generation` refuses tokens")


def _bare(request: m.Generate) -> dict[str, Any]:
    if request.constraint is not None:
        raise UnsupportedParameter(ErrorText("bare_prompt_without_format"), param="response_format")
    return {} if request.top_logprobs is None else {"logprobs": request.top_logprobs}


def _limits(request: m.Generate) -> dict[str, Any]:
    """The limits of the answer; extensions of OpenAI's API only if the request uses them."""
    fields: dict[str, Any] = {}
    if request.max_tokens is not None:
        fields["max_tokens"] = request.max_tokens
    if request.stop:
        fields["stop"] = request.stop
    if request.n != 1:
        fields["n"] = request.n
    if request.ignore_eos:
        fields["ignore_eos"] = True
    return fields


def _template(conversation: m.Conversation) -> dict[str, Any]:
    kwargs = dict(conversation.template_kwargs)
    # OpenAI's current name of this field, which clouds know too.
    fields = (
        {"reasoning_effort": effort} if (effort := kwargs.pop("reasoning_effort", None)) else {}
    )
    return fields | ({"chat_template_kwargs": kwargs} if kwargs else {})


def _tools(conversation: m.Conversation) -> dict[str, Any]:
    if not conversation.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in conversation.tools]}
    if conversation.must_call_name:
        named = {"name": conversation.must_call_name}
        fields["tool_choice"] = {"type": "function", "function": named}
    elif conversation.must_call:
        fields["tool_choice"] = "required"
    if not conversation.parallel_calls:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: m.Tool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": _json(tool.parameters, "tools"),
    }
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _format(constraint: m.ConstraintSpec | None) -> dict[str, Any]:
    match constraint:
        case None:
            return {}
        case m.ConstraintSpec("json_object"):
            return {"response_format": {"type": "json_object"}}
        case m.ConstraintSpec("json_schema", text):
            schema = {"name": "answer", "schema": _json(text, "response_format"), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case m.ConstraintSpec(kind):
            raise UnsupportedParameter(ErrorText("not_for_remote", name=kind), param=kind)


def _json(text: str, param: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise InvalidRequest(ErrorText("schema_invalid_json"), param=param) from None
