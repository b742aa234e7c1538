"""Which fields of a request change nothing: told in the header x-ignored-parameters."""

from gateway.schemas.base import ApiModel
from gateway.schemas.sampling import StreamOptions

NO_EFFECT = (
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
)


def ignored_fields(body: ApiModel) -> list[str]:
    """Names of fields that the client set and that change nothing, for the response header."""
    sent = body.model_fields_set - body.echoed
    found = [n for n in NO_EFFECT if n in sent and getattr(body, n)]
    if getattr(body, "parallel_tool_calls", None) is not None and not getattr(body, "tools", None):
        found.append("parallel_tool_calls")
    options: StreamOptions | None = getattr(body, "stream_options", None)
    if options is not None and options.include_obfuscation:
        found.append("stream_options.include_obfuscation")
    return sorted(found)
