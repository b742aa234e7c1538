"""Parses a request's body and replaces the name of its model by the model's id."""

from typing import TypeVar

from starlette.requests import Request

from common.error_texts import ErrorText
from common.errors import PermissionDenied
from common.model_ids import same_model_id
from gateway.errors import shorten
from gateway.keys.endpoints import Kind
from gateway.keys.record import KeyRecord
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.schemas.base import ApiModel
from gateway.services import Services, services_of
from gateway.translate.custom import apply

T = TypeVar("T", bound=ApiModel)


async def parse_for_model(request: Request, schema: type[T]) -> T:
    """Return the parsed body, with the id of the model that its `model` refers to.

    Raises:
        InvalidRequest: the body is not valid, see `parse`.
        PermissionDenied: the client's key has no right to the model.
    """
    body = await parse(request, schema)
    name = getattr(body, "model", None)
    services, context = services_of(request), context_of(request.scope)
    if name:
        if services.model_names.known(name, lambda id: is_listed(services, id)) is None:
            # Its file may be new.
            await services.new_models.look(name)
        meant = services.model_names.meant(name, lambda id: is_listed(services, id))
        if meant != name:
            body.model = meant  # type: ignore[attr-defined]
            custom = services.custom_models.find(name)
            if custom is not None and custom.model == meant:
                apply(custom, body)
    key = context.key
    if key is not None and key.models is not None:
        _check_right(
            services, key, getattr(body, "model", None) or _default(services, context.kind)
        )
    return body


def _check_right(services: Services, key: KeyRecord, model: str) -> None:
    """
    Raises:
        PermissionDenied: the key may not use the model; "": a default that is not known here.
    """
    if not model and not key.admin:
        raise PermissionDenied(ErrorText("model_unnamed"), param="model")
    if not may_use(services, key, model):
        raise PermissionDenied(ErrorText("model_forbidden", model=shorten(model)), param="model")


def may_use(services: Services, key: KeyRecord, model: str) -> bool:
    """Whether the key may use the model with this id, of which it may name an alias."""
    return key.allows_model(model) or any(
        same_model_id(meant, model)
        for name in key.models or ()
        if not is_listed(services, name)
        and (meant := services.model_names.aliased(name, lambda id: is_listed(services, id)))
    )


def _default(services: Services, kind: Kind | None) -> str:
    """The id of the model that serves requests without a name, if this gateway can tell."""
    # Only a worker knows which of its models ranks.
    return "" if kind == "embeddings" else services.pool.chat.known_id("")


def may_see(request: Request, model: str) -> bool:
    """Return whether the client's key may use the model with this id."""
    key = context_of(request.scope).key
    return key is None or may_use(services_of(request), key, model)


def is_listed(services: Services, model: str) -> bool:
    """Return whether a serving worker lists the model."""
    serving = (*services.pool.chat.serving, *services.pool.embed.serving)
    return any(endpoint.lists(model) for endpoint in serving)
