"""The ASGI application: layers around routes. `create_app(settings, pool)`."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from difflib import get_close_matches

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import ServingError
from common.freed_memory import return_freed_memory
from common.settings import split_list
from gateway.console.files import ConsoleFiles
from gateway.console.middleware import ConsoleMiddleware
from gateway.errors import error_response, plain_error_response, shorten
from gateway.fastapi_app import LayeredApp
from gateway.idle_time import return_memory
from gateway.middleware.access_log import AccessLogMiddleware
from gateway.middleware.audit import AuditMiddleware
from gateway.middleware.auth import AuthMiddleware
from gateway.middleware.body_budget import BodyBudgetMiddleware
from gateway.middleware.compat_port import CompatPortMiddleware
from gateway.middleware.compression import CompressionMiddleware
from gateway.middleware.cors import CorsPolicyMiddleware
from gateway.middleware.edges import (
    BoundsMiddleware,
    CountMiddleware,
    HeadMiddleware,
    RequestIdMiddleware,
)
from gateway.middleware.hosts import HostMiddleware
from gateway.middleware.limits import LimitsMiddleware
from gateway.middleware.paths import ELSEWHERE, MeantPathMiddleware
from gateway.middleware.request_context import context_of
from gateway.middleware.trace import TraceMiddleware
from gateway.openapi import describe
from gateway.pool import Pool
from gateway.routes import (
    activity,
    batches,
    chat,
    completions,
    conversations,
    embeddings,
    health,
    infill,
    keys,
    lifecycle,
    messages,
    metrics,
    models,
    ollama,
    pulls,
    rerank,
    responses,
    stored_responses,
    tokenize,
)
from gateway.routes.request_route import request_routes
from gateway.schemas.batches import BatchRequest
from gateway.schemas.chat import ChatRequest
from gateway.schemas.completions import CompletionRequest
from gateway.schemas.embeddings import EmbeddingRequest
from gateway.schemas.infill import InfillRequest
from gateway.schemas.keys import KeyRequest
from gateway.schemas.lifecycle import CancelRequest, LoadRequest, UnloadRequest
from gateway.schemas.messages import CountTokensRequest, MessagesRequest
from gateway.schemas.ollama import OLLAMA_BODIES
from gateway.schemas.pulls import CancelPullRequest, PullRequest
from gateway.schemas.rerank import RerankRequest, ScoreRequest
from gateway.schemas.responses import ResponsesRequest
from gateway.schemas.stored_responses import (
    ConversationChange,
    ConversationItems,
    ConversationRequest,
)
from gateway.schemas.tokenize import DetokenizeRequest, TemplateRequest, TokenizeRequest
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.transport.proxies import ForwardedMiddleware

BODIES = (
    ChatRequest,
    ResponsesRequest,
    ConversationRequest,
    ConversationChange,
    ConversationItems,
    MessagesRequest,
    CountTokensRequest,
    CompletionRequest,
    TokenizeRequest,
    DetokenizeRequest,
    TemplateRequest,
    EmbeddingRequest,
    RerankRequest,
    ScoreRequest,
    LoadRequest,
    UnloadRequest,
    KeyRequest,
    BatchRequest,
    CancelRequest,
    InfillRequest,
    *OLLAMA_BODIES,
    PullRequest,
    CancelPullRequest,
)


NOT_FOUND = 404
MAX_PATH = 200
# How like another path one must be (0 to 1) to be a slip: what other servers' paths do is not done
# by a path here that only looks like them.
MISSPELT = 0.85
# By status: the code of the error, and the id of its message.
_HTTP_ERRORS = {
    404: ("not_found", "http_not_found"),
    405: ("method_not_allowed", "http_method_not_allowed"),
    408: ("request_timeout", "http_request_timeout"),
}


def create_app(
    settings: GatewaySettings | None = None,
    pool: Pool | None = None,
    *,
    with_embeddings: bool = True,
) -> FastAPI:
    """The gateway's app; without arguments it is configured by the environment."""
    settings = settings or GatewaySettings()
    services = Services(settings, pool or make_pool(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with (
            services.pool.watching(),
            services.budgets.sums.kept(),
            services.batches.running(app.inside, services.batch_context),
        ):
            returning = asyncio.create_task(
                return_memory(services.batches.foreground, return_freed_memory)
            )
            watching_proxies = asyncio.create_task(services.proxies.watch())
            yield
            watching_proxies.cancel()
            returning.cancel()
            await services.background.close()
        await services.close()

    app = LayeredApp(
        title="Y26HKX",
        description="Chat and embeddings for small machines, over the OpenAI API.",
        lifespan=lifespan,
        redirect_slashes=False,
        # The console shows the document; FastAPI's pages load their scripts from the internet.
        docs_url=None,
        redoc_url=None,
        exception_handlers={ServingError: _serving_error, HTTPException: _http_error},
    )
    app.state.services = services
    described = _described_routes(with_embeddings=with_embeddings)
    # `include_router` would match every path twice, and much more slowly.
    app.router.routes.extend(request_routes(described))
    # Built on demand, because few processes ever need it.
    app.openapi = functools.cache(functools.partial(describe, app, described, BODIES))  # type: ignore[method-assign]
    _add_layers(app, services, [route.path for route in described])
    app.state.paths = sorted({route.path for route in described if "{" not in route.path})
    return app


def _described_routes(*, with_embeddings: bool) -> list[APIRoute]:
    """All routes, in the order in which they are tried: the most used come first."""
    modules = [chat, *([embeddings, rerank] if with_embeddings else [])]
    modules += [responses, messages, completions, infill, tokenize]
    modules += [stored_responses, conversations, models, lifecycle, pulls, batches]
    modules += [keys, health, activity, metrics]
    described = [route for module in modules for route in module.router.routes]
    return described + ollama.routes(with_embeddings=with_embeddings)


def _add_layers(app: FastAPI, services: Services, paths: list[str]) -> None:
    """Add what happens to every request; the last one added is the outermost.

    Args:
        paths: of the routes, which may be logged as they are.
    """
    settings = services.settings
    app.add_middleware(HeadMiddleware)
    app.add_middleware(CompressionMiddleware)
    app.add_middleware(CountMiddleware, services=services)
    app.add_middleware(BodyBudgetMiddleware, budget=services.body_budget)
    app.add_middleware(BoundsMiddleware, settings=settings)
    app.add_middleware(LimitsMiddleware, services=services)
    app.add_middleware(AuthMiddleware, keys=services.keys)
    if settings.audit_log is not None:
        app.add_middleware(AuditMiddleware, path=settings.audit_log, needs_key=settings.has_keys)
    files = ConsoleFiles() if settings.console else None
    if files is not None:
        app.add_middleware(ConsoleMiddleware, files=files)
    app.add_middleware(CorsPolicyMiddleware, settings=settings)
    if not settings.has_keys:
        app.add_middleware(HostMiddleware, settings=settings)
    if services.tracer is not None:
        app.add_middleware(TraceMiddleware, tracer=services.tracer)
    app.add_middleware(RequestIdMiddleware, services=services)
    if services.proxies.listed:
        app.add_middleware(ForwardedMiddleware, proxies=services.proxies)
    if settings.access_log:
        logged = paths + (files.paths if files is not None else [])
        app.add_middleware(AccessLogMiddleware, paths=logged)
    app.add_middleware(MeantPathMiddleware)
    if settings.ollama_port:
        app.add_middleware(CompatPortMiddleware, port=settings.ollama_port)


def make_pool(settings: GatewaySettings) -> Pool:
    return Pool(
        split_list(settings.chat_workers),
        split_list(settings.embed_workers),
        settings.worker_token.get_secret_value(),
        settings.certificates(),
        settings.worker_wait_s,
        settings.slow_worker_factor,
    )


async def _serving_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    context_of(request.scope).note_error(error)
    return error_response(error, request.scope)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, id = _HTTP_ERRORS.get(error.status_code, ("http_error", "http_error"))
    path, detail = shorten(request.scope["path"], MAX_PATH), str(error.detail).lower()
    text = ErrorText(id, method=request.method[:16], path=path, detail=detail)
    headers = dict(error.headers or {})
    nearest = _nearest(request) if error.status_code == NOT_FOUND else None
    suggestions = () if nearest is None else (ErrorText("use_instead", instead=nearest),)
    return plain_error_response(error.status_code, code, text, request.scope, headers, suggestions)


def _nearest(request: Request) -> str | None:
    """The path that was most likely meant: the end of the one that was asked for, or like it."""
    asked: str = request.scope["path"][:MAX_PATH]
    known: list[str] = request.app.state.paths
    if asked in ELSEWHERE:
        return ELSEWHERE[asked]
    ends = [path for path in known if asked.endswith(path)]
    if ends:
        return max(ends, key=len)
    return next(iter(get_close_matches(asked, known, n=1, cutoff=MISSPELT)), None)
