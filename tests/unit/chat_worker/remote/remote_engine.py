"""What a remote engine process is loaded with, and asked."""

from typing import Any

import msgspec

from chat_worker import pipe_messages as m
from chat_worker.remote.spec import RemoteModel, RemoteSpec
from tests.unit.chat_worker.engine_pipe import EnginePipe
from tests.unit.chat_worker.remote.scripted_upstream import ScriptedUpstream
from worker_runtime.engine_process import protocol

MODULE = "chat_worker.remote.engine_process"
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def spec(upstream: ScriptedUpstream, api_key: str = "sk-secret", **changed: Any) -> RemoteSpec:
    plain = RemoteModel(id="far", base_url=upstream.base_url, model="big", max_concurrent=2)
    return RemoteSpec(
        model=msgspec.structs.replace(plain, **changed),
        api_key=api_key,
        default_system_prompt="Be kind.",
    )


def question(**changed: Any) -> m.Generate:
    return m.Generate(**({"input": m.Conversation([m.Message("user", "hi")])} | changed))


def failure(engine: EnginePipe, request: m.Generate | None = None) -> protocol.PipeError:
    _, error = engine.ask(request or question())
    assert error is not None
    return error
