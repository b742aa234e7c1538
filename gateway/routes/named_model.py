"""A request's body, with the model that it means under that model's own id."""

from typing import TypeVar

from starlette.requests import Request

from gateway.middleware.body import parse
from gateway.schemas.base import ApiModel
from gateway.services import Services, services_of

T = TypeVar("T", bound=ApiModel)


async def parse_for_model(request: Request, schema: type[T]) -> T:
    """Raises:
    InvalidRequest: as `parse`.
    """
    body = await parse(request, schema)
    name = getattr(body, "model", None)
    if name:
        services = services_of(request)
        meant = services.model_names.meant(name, lambda id: is_listed(services, id))
        if meant != name:
            body.model = meant  # type: ignore[attr-defined]
    return body


def is_listed(services: Services, model: str) -> bool:
    """Whether a worker that serves has it."""
    serving = (*services.pool.chat.serving, *services.pool.embed.serving)
    return any(endpoint.lists(model) for endpoint in serving)
