"""Which fields of a request change nothing: told in the header x-ignored-parameters."""

from gateway.schemas.base import ApiModel
from gateway.schemas.sampling import StreamOptions

NO_EFFECT = frozenset(
    {
        "user",
        "store",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "verbosity",
        "prediction",
        "priority",
        "max_chunks_per_doc",
    }
)

SOMETIMES = frozenset({"parallel_tool_calls", "stream_options"})


def ignored_fields(body: ApiModel) -> list[str]:
    """Names of fields that the client set and that change nothing, for the response header."""
    sent = body.model_fields_set - body.echoed
    found = [name for name in sent & NO_EFFECT if getattr(body, name)]
    # The fields that a schema lacks are slow to ask it for.
    set_to = {name: getattr(body, name) for name in sent & SOMETIMES}
    if set_to.get("parallel_tool_calls") is not None and not getattr(body, "tools", None):
        found.append("parallel_tool_calls")
    options: StreamOptions | None = set_to.get("stream_options")
    if options is not None and options.include_obfuscation:
        found.append("stream_options.include_obfuscation")
    return sorted(found)
