"""`GET /metrics`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.services import services_of

router = APIRouter()


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """All metrics, in Prometheus' text format."""
    page = services_of(request).metrics.page()
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")
