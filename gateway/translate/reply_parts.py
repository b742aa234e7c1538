"""Fields that several kinds of replies have in common: model, usage and finish reason."""

from protos.y26hkx.v1 import chat_pb2, common_pb2


def usage(counts: common_pb2.Usage) -> dict[str, object]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }


def served_by(started: chat_pb2.Started) -> dict[str, object]:
    """The model that answers, `trimmed` if it did not get the whole input, and its reductions."""
    found: dict[str, object] = {
        "model": started.model.id,
        "system_fingerprint": started.model.fingerprint,
    }
    if started.trimmed_tokens:
        found["trimmed"] = True
    return found | reduced(started)


def reduced(started: chat_pb2.Started) -> dict[str, object]:
    return {"reduced": list(started.reductions)} if started.reductions else {}


FINISH_REASONS = {
    chat_pb2.ChoiceEnd.REASON_UNSPECIFIED: "stop",
    chat_pb2.ChoiceEnd.REASON_STOP: "stop",
    chat_pb2.ChoiceEnd.REASON_LENGTH: "length",
    chat_pb2.ChoiceEnd.REASON_TOOL_CALLS: "tool_calls",
    chat_pb2.ChoiceEnd.REASON_CONTENT_FILTER: "content_filter",
}


def token_text(candidate: chat_pb2.Candidate) -> str:
    return candidate.text.decode("utf-8", "replace")
