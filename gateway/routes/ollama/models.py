"""`/api/tags`, `/api/ps`, `/api/show`, `/api/version`: the models and the server; loads nothing."""

import contextlib

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from common.errors import ServingError
from common.packages import version_of
from gateway.errors import json_response
from gateway.openapi import takes
from gateway.routes.lifecycle import holders, refresh_models
from gateway.routes.named_model import may_see
from gateway.routes.ollama.named import model_of, models_by_id, parse_named
from gateway.schemas.ollama.models import ShowRequest
from gateway.services import services_of
from gateway.translate.ollama.models import LOADED, listed, running, shown
from gateway.transport.disconnect import cancel_on_disconnect

router = APIRouter()
# The version of Ollama's API that is followed: clients ask whether the server is new enough.
API_VERSION = "0.12.11"


# `/` of the port for Ollama's clients leads here, see `middleware/compat_port.py`.
@router.get("/api", include_in_schema=False)
async def is_running(request: Request) -> Response:
    """What people and scripts look for to see that the server is there."""
    return PlainTextResponse("Ollama is running")


@router.get("/api/version")
async def version(request: Request) -> Response:
    """The version of Ollama's API that is followed, and that of this server."""
    return json_response({"version": API_VERSION, "y26hkx": version_of("y26hkx", "unknown")})


@router.get("/api/tags")
async def tags(request: Request) -> Response:
    """All models that the client may use, and those that clients made of them."""
    services = services_of(request)
    found = {id: m for id, m in models_by_id(services).items() if may_see(request, id)}
    made = [
        listed(model_of(services, custom.model), custom)
        for custom in services.custom_models.all()
        if custom.model in found
    ]
    aliases = [listed(model, alias=alias) for model in found.values() for alias in model.aliases]
    return json_response({"models": [*map(listed, found.values()), *aliases, *made]})


@router.get("/api/ps")
async def ps(request: Request) -> Response:
    """The models that are loaded, of those that the client may use."""
    services = services_of(request)
    serving = [*services.pool.chat.serving, *services.pool.embed.serving]
    # Clients ask right after a request, before the workers tell of it by themselves.
    with contextlib.suppress(ServingError):
        await cancel_on_disconnect(request, refresh_models(request, serving))
    known = (m for id, m in models_by_id(services).items() if may_see(request, id))
    return json_response({"models": [running(m) for m in known if m.state in LOADED]})


@router.post("/api/show", openapi_extra=takes(ShowRequest))
async def show(request: Request) -> Response:
    """What is known of one model."""
    services = services_of(request)
    _, found = await parse_named(request, ShowRequest)
    holders(services, found.id)
    return json_response(shown(model_of(services, found.id), found.custom))
