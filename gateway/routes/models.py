"""`GET /v1/models` and `GET /v1/models/{id}`: the models and their state; loads nothing."""

import time
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import ModelNotFound
from common.model_ids import folded_id
from gateway.errors import json_response, shorten
from gateway.routes.named_model import may_see
from gateway.services import Services, services_of
from protos.y26hkx.v1 import worker_pb2

router = APIRouter()
# The end of the year 9999, after which no date is written.
LATEST_S = 253_402_300_799
NO_ENDS = {"first_id": None, "last_id": None}


@router.get("/v1/models")
@router.get("/models", include_in_schema=False)
async def list_models(request: Request) -> Response:
    """All models of all workers; an id that a chat and an embedding model share is listed twice."""
    services = services_of(request)
    found = [model for model in _all_models(services) if may_see(request, model["id"])]
    found += _aliases(services, found)
    ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else NO_ENDS
    # The fields of OpenAI's list, and of Anthropic's.
    return json_response({"object": "list", "data": found, "has_more": False} | ends)


@router.get("/v1/models/{model_id:path}")
@router.get("/models/{model_id:path}", include_in_schema=False)
async def one_model(request: Request, model_id: str) -> Response:
    """One model by id."""
    services = services_of(request)
    found = _seen(request)
    if (known := _known(services, found, model_id)) is None:
        # Its file may be new.
        await services.new_models.look(model_id)
        found = _seen(request)
        known = _known(services, found, model_id)
    if known is None:
        raise ModelNotFound(
            ErrorText("model_not_found", model=shorten(model_id)),
            param="model",
            suggestions=tuple(found)[:10],
        )
    return json_response(found[known])


def _seen(request: Request) -> dict[str, dict[str, Any]]:
    """The models that the client may use, by id."""
    found = models_of(services_of(request))
    return {id: model for id, model in found.items() if may_see(request, id)}


def _aliases(services: Services, models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An entry for each other name of these models, which are told of them, too."""
    by_id = {folded_id(model["id"]): model for model in models}
    named = [*services.model_names.aliases(), *(a for m in models for a in m["aliases"])]
    entries = {}
    for alias in named:
        meant = services.model_names.known(alias, lambda id: folded_id(id) in by_id)
        if folded_id(alias) in by_id or meant is None or folded_id(meant) not in by_id:
            continue
        model = by_id[folded_id(meant)]
        if alias not in model["aliases"]:
            model["aliases"].append(alias)
        own = {"id": alias, "display_name": alias, "is_default": False, "aliases": []}
        entries[folded_id(alias)] = model | own | {"alias_of": model["id"]}
    return list(entries.values())


def _known(services: Services, found: dict[str, Any], name: str) -> str | None:
    """The id that a name means, in any case and Unicode normal form, or as an alias."""
    listed = {folded_id(each): each for each in found}
    meant = services.model_names.known(name, lambda each: folded_id(each) in listed)
    return None if meant is None else listed.get(folded_id(meant))


def models_of(services: Services) -> dict[str, dict[str, Any]]:
    """OpenAI's model objects by id, with our additional fields."""
    return {model["id"]: model for model in _all_models(services)}


def _all_models(services: Services) -> list[dict[str, Any]]:
    kinds = (services.pool.chat, services.pool.embed)
    # A worker may serve both kinds.
    by_kind = {
        (model.id, model.capability): described(model)
        for workers in kinds
        for model in workers.models().values()
    }
    found = list(by_kind.values())
    main = services.settings.main_model_id
    if not services.pool.chat.serving and all(model["id"] != main for model in found):
        found.append(_base(main, 0) | {"state": "unreachable", "capability": "chat"})
    return found


def described(model: worker_pb2.Model) -> dict[str, Any]:
    """The model object of the API."""
    described = _base(model.id, model.created_s) | {
        "capability": worker_pb2.Capability.Name(model.capability)
        .removeprefix("CAPABILITY_")
        .lower(),
        "backend": model.backend,
        "backend_reason": model.backend_reason or None,
        "state": state_name(model.state),
        "is_default": model.is_default,
        "aliases": list(model.aliases),
        "context_length": model.context_length or None,
        "chat_template": model.chat_template or None,
        "size_bytes": model.size_bytes,
        "resident_bytes": model.resident_bytes,
        "n_leases": model.n_leases,
        "n_waiting": model.n_waiting,
        "loaded_at": model.loaded_at_s or None,
        "idle_seconds": _seconds(model, "idle_s"),
        "last_used": _last_used(model),
        "expires_in_seconds": _seconds(model, "expires_in_s"),
        "pinned": model.pinned,
        "reductions": list(model.reductions),
        "served_by": model.served_by or None,
        "memory": {field.name: value for field, value in model.memory.ListFields()},
        "freed_bytes": model.freed_bytes if model.HasField("freed_bytes") else None,
    }
    if model.state == worker_pb2.MODEL_STATE_LOADING:
        described["load_fraction"] = round(model.load_fraction, 3)
        described["load_stage"] = model.load_stage
    if model.failure:
        described["failure"] = model.failure
    return described


def _seconds(model: worker_pb2.Model, field: Literal["idle_s", "expires_in_s"]) -> float | None:
    return round(getattr(model, field), 3) if model.HasField(field) else None


def _last_used(model: worker_pb2.Model) -> float | None:
    """Seconds since the epoch."""
    if not model.n_leases and not model.HasField("idle_s"):
        return None
    return round(time.time() - model.idle_s, 3)


def state_name(state: worker_pb2.ModelState.ValueType) -> str:
    return worker_pb2.ModelState.Name(state).removeprefix("MODEL_STATE_").lower()


def _base(model_id: str, created_s: int) -> dict[str, Any]:
    created = datetime.fromtimestamp(min(max(created_s, 0), LATEST_S), UTC)
    return {
        "id": model_id,
        "object": "model",
        "created": created_s,
        "owned_by": "y26hkx",
        "type": "model",
        "display_name": model_id,
        "aliases": [],
        "created_at": created.isoformat().replace("+00:00", "Z"),
    }
