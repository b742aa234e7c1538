"""Models in Ollama's format: lists, details, and the Modelfile that would make them again."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

from gateway.custom_models import CustomModel
from gateway.translate.ollama.reply import timestamp
from protos.y26hkx.v1 import worker_pb2

CHAT = worker_pb2.CAPABILITY_CHAT
LOADED = (worker_pb2.MODEL_STATE_READY, worker_pb2.MODEL_STATE_DRAINING)
# The end of the year 9999, for models that stay loaded, and for wrong times of files.
LATEST_S = 253_402_300_799
UNKNOWN = "unknown"
# What is done with a prompt, in the template language of Ollama: its clients look for `.Suffix`.
TEMPLATE = "{{ .Prompt }}"
TEMPLATE_WITH_SUFFIX = (
    "{{ if .Suffix }}{{ .Prompt }} … {{ .Suffix }}{{ else }}{{ .Prompt }}{{ end }}"
)
Described = dict[str, Any]


def tagged(model_id: str) -> str:
    """An id as Ollama's clients expect names, with a tag."""
    return model_id if ":" in model_id.rpartition("/")[2] else f"{model_id}:latest"


def listed(
    model: worker_pb2.Model, custom: CustomModel | None = None, alias: str = ""
) -> Described:
    """A model in the list of all, under its id or another name."""
    name = tagged(custom.name if custom else alias or model.id)
    return {
        "name": name,
        "model": name,
        "modified_at": _modified(model, custom),
        "size": model.size_bytes,
        "digest": _digest(model, custom),
        "details": details(model, custom),
        "capabilities": capabilities(model),
    }


def running(model: worker_pb2.Model) -> Described:
    """A loaded model in the list of those; without `expires_at` while it is in use."""
    found = {
        "name": tagged(model.id),
        "model": tagged(model.id),
        "size": model.resident_bytes,
        "digest": _digest(model),
        "details": details(model),
        # No part of a model is known to be in a GPU's memory.
        "size_vram": 0,
        "context_length": model.context_length,
    }
    if model.pinned:
        found["expires_at"] = timestamp(LATEST_S)
    elif model.HasField("expires_in_s"):
        found["expires_at"] = timestamp(time.time() + model.expires_in_s)
    return found


def details(model: worker_pb2.Model, custom: CustomModel | None = None) -> Described:
    facts = model.facts
    return {
        "parent_model": tagged(model.id) if custom else "",
        "format": facts.format,
        "family": facts.family,
        "families": [facts.family] if facts.family else [],
        "parameter_size": _short(facts.n_parameters),
        "quantization_level": facts.quantization or UNKNOWN,
        "context_length": model.context_length,
        "embedding_length": facts.embedding_length,
    }


def capabilities(model: worker_pb2.Model) -> list[str]:
    if model.capability != CHAT:
        return ["embedding"]
    return ["completion", *model.facts.abilities]


def shown(model: worker_pb2.Model, custom: CustomModel | None = None) -> Described:
    """All that is known of a model."""
    found = {
        "modelfile": _modelfile(model, custom),
        "parameters": _parameters(model, custom),
        "template": _template(model),
        "details": details(model, custom),
        "model_info": _info(model),
        "capabilities": capabilities(model),
        "modified_at": _modified(model, custom),
    }
    if custom is not None:
        more: Described = {
            "system": custom.system,
            "license": custom.license,
            "messages": [message.model_dump() for message in custom.messages],
        }
        found |= {name: value for name, value in more.items() if value}
    return found


def _info(model: worker_pb2.Model) -> Described:
    """Facts under the names of GGUF's metadata."""
    facts = model.facts
    family = facts.family or UNKNOWN
    found = {
        "general.architecture": family,
        "general.basename": model.id,
        "general.parameter_count": facts.n_parameters,
        f"{family}.embedding_length": facts.embedding_length,
        # What a request may use, by which clients plan; the file may have been trained for more.
        f"{family}.context_length": model.context_length,
    }
    return {name: value for name, value in found.items() if value}


def _set(model: worker_pb2.Model, custom: CustomModel | None) -> Iterator[tuple[str, str]]:
    """Names and values of the options that apply unless a request sets them."""
    own = custom.options.model_dump(exclude_none=True, exclude={"stop"}) if custom else {}
    if model.context_length:
        own["num_ctx"] = model.context_length
    yield from ((name, str(value).lower()) for name, value in own.items())
    yield from (("stop", _quoted(stop)) for stop in (custom.options.stops if custom else ()))


def _parameters(model: worker_pb2.Model, custom: CustomModel | None) -> str:
    return "\n".join(f"{name:<30} {value}" for name, value in _set(model, custom))


def _modelfile(model: worker_pb2.Model, custom: CustomModel | None) -> str:
    lines = [f"FROM {model.id}"]
    lines += (f"PARAMETER {name} {value}" for name, value in _set(model, custom))
    if custom is not None:
        if custom.system:
            lines.append(f"SYSTEM {_block(custom.system)}")
        lines += (f"MESSAGE {m.role} {_block(m.content)}" for m in custom.messages)
        if custom.license:
            lines.append(f"LICENSE {_block(custom.license)}")
    return "\n".join(lines) + "\n"


def _template(model: worker_pb2.Model) -> str:
    return TEMPLATE_WITH_SUFFIX if "insert" in model.facts.abilities else TEMPLATE


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _block(text: str) -> str:
    return f'"""{text}"""'


def _modified(model: worker_pb2.Model, custom: CustomModel | None) -> str:
    seconds = custom.created_s if custom else float(model.created_s)
    return timestamp(min(max(seconds, 0.0), LATEST_S))


def _digest(model: worker_pb2.Model, custom: CustomModel | None = None) -> str:
    """Differs for other names, sizes and times: weights are not hashed, as that takes long."""
    facts = f"{model.id}\0{model.size_bytes}\0{model.created_s}"
    made = custom.model_dump_json() if custom else ""
    return hashlib.sha256(f"{facts}\0{made}".encode("utf-8", "replace")).hexdigest()


def _short(n_parameters: int) -> str:
    """A count as Ollama writes it: 494.03M, 7.6B; empty if it is unknown."""
    for unit, size, digits in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 2)):
        if n_parameters >= size:
            return f"{n_parameters / size:.{digits}f}{unit}"
    return str(n_parameters) if n_parameters else ""
