"""`/api/pull` and `/api/delete`: models that come from a hub, and models and names that go."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.middleware.body import parse
from gateway.openapi import takes
from gateway.routes.pulls import delete_files
from gateway.schemas.ollama.models import DeleteRequest, OllamaPullRequest
from gateway.services import Services, services_of
from gateway.translate.ollama.progress import progress_of
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.ndjson import json_lines

router = APIRouter()
DONE = {"status": "success"}


@router.post("/api/pull", openapi_extra=takes(OllamaPullRequest, streams="lines"))
async def pull(request: Request) -> Response:
    """Download a model from a hub into the models folder. The download ends when the client leaves,
    and goes on at the next request for the same model."""
    services = services_of(request)
    body = await parse(request, OllamaPullRequest)
    events = _pull(services, body.sent_name.strip())
    if body.stream is not False:
        return json_lines(events, services.sse_limits)
    await cancel_on_disconnect(request, _last(events))
    return json_response(DONE)


@router.delete("/api/delete", openapi_extra=takes(DeleteRequest))
async def delete(request: Request) -> Response:
    """Forget a name that a client made, or delete a model's files, unless it is in use."""
    services = services_of(request)
    body = await parse(request, DeleteRequest)
    if not services.custom_models.remove(body.sent_name):
        await delete_files(request, body.sent_name, force=False)
    return json_response(DONE)


async def _pull(services: Services, name: str) -> AsyncGenerator[bytes, None]:
    """The progress of the download; the last line comes when the model is served."""
    async with aclosing(services.pulls.events(name, force=False, plan_only=False)) as events:
        async for event in events:
            if event["status"] == "done":
                await services.new_models.scan(services.settings.request_timeout_s)
            for progress in progress_of(event):
                yield orjson.dumps(progress)


async def _last(events: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass
