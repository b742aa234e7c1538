"""Which fields of a request change nothing: told in the header x-ignored-parameters."""

from gateway.schemas.base import ApiModel, unknown_inside
from gateway.schemas.formats import StructuredOutputs
from gateway.schemas.sampling import HINTS, OPTIONS, SAME_AS, StreamOptions

NO_EFFECT = HINTS | frozenset(
    {
        "client_metadata",
        "guided_decoding_backend",
        "guided_whitespace_pattern",
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
NO_EFFECT_ON_STREAMS = ("include_obfuscation", "continuous_usage_stats")


def ignored_fields(body: ApiModel) -> list[str]:
    """Names of fields that the client set and that change nothing, for the response header."""
    sent = {name: getattr(body, name) for name in body.model_fields_set}
    found = [name for name in sent.keys() & NO_EFFECT - body.echoed if sent[name]]
    if sent.get("parallel_tool_calls") is not None and not sent.get("tools"):
        found.append("parallel_tool_calls")
    options: StreamOptions | None = sent.get("stream_options")
    if options is not None:
        told = (name for name in NO_EFFECT_ON_STREAMS if getattr(options, name))
        found += (f"stream_options.{name}" for name in told)
    found += unknown_inside(sent.get("response_format"))
    formats: StructuredOutputs | None = sent.get("structured_outputs")
    if formats is not None:
        unused = (name for name in formats.no_effect if getattr(formats, name))
        found += (f"structured_outputs.{name}" for name in unused)
    others = sent.get("options")
    for name in others if isinstance(others, dict) else ():
        if SAME_AS.get(name, name) not in OPTIONS:
            found.append(f"options.{name}")
    return sorted(found)
