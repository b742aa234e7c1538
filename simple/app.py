"""The simple server's ASGI app: `uvicorn simple.app:app --port 8002`."""

from fastapi import FastAPI

from chat_worker.settings import ChatSettings
from gateway.app import create_app
from gateway.settings import GatewaySettings
from simple.pool import LocalPool
from simple.settings import SimpleSettings


def create_simple_app(
    settings: GatewaySettings | None = None, chat: ChatSettings | None = None
) -> FastAPI:
    """The gateway's app with a chat worker in the same process, without embeddings.

    Args:
        settings, chat: read from the environment if not given.
    """
    pool = LocalPool(chat or ChatSettings())
    return create_app(settings or SimpleSettings(), pool, with_embeddings=False)


def __getattr__(name: str) -> FastAPI:
    # Made when a server asks for it, not on every import of this module.
    if name == "app":
        return create_simple_app()
    raise AttributeError(name)
