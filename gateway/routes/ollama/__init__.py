"""Ollama's API: the routes below `/api/`."""

from fastapi.routing import APIRoute

from gateway.routes.ollama import chat, custom, embed, files, generate, models


def routes(*, with_embeddings: bool) -> list[APIRoute]:
    """The most used ones come first."""
    modules = [chat, generate, *([embed] if with_embeddings else []), models, custom, files]
    return [route for module in modules for route in module.router.routes]
