"""Parses a request's body and replaces the name of its model by the model's id."""

from typing import TypeVar

from starlette.requests import Request

from gateway.middleware.body import parse
from gateway.schemas.base import ApiModel
from gateway.services import Services, services_of
from gateway.translate.custom import apply

T = TypeVar("T", bound=ApiModel)


async def parse_for_model(request: Request, schema: type[T]) -> T:
    """Return the parsed body, with the id of the model that its `model` refers to.

    Raises:
        InvalidRequest: the body is not valid, see `parse`.
    """
    body = await parse(request, schema)
    name = getattr(body, "model", None)
    if name:
        services = services_of(request)
        if services.model_names.known(name, lambda id: is_listed(services, id)) is None:
            # Its file may be new.
            await services.new_models.look()
        meant = services.model_names.meant(name, lambda id: is_listed(services, id))
        if meant != name:
            body.model = meant  # type: ignore[attr-defined]
            custom = services.custom_models.find(name)
            if custom is not None and custom.model == meant:
                apply(custom, body)
    return body


def is_listed(services: Services, model: str) -> bool:
    """Return whether a serving worker lists the model."""
    serving = (*services.pool.chat.serving, *services.pool.embed.serving)
    return any(endpoint.lists(model) for endpoint in serving)
