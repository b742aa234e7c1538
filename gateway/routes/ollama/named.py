"""Which model a request of Ollama's API is about, and what the workers say of it."""

from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from common.error_texts import ErrorText
from common.errors import ModelNotFound
from common.model_ids import same_model_id
from gateway.custom_models import CustomModel, without_tag
from gateway.errors import shorten
from gateway.routes.lifecycle import holders
from gateway.routes.named_model import is_listed, parse_for_model
from gateway.schemas.ollama.chat import ModelRequest
from gateway.services import Services, services_of
from protos.y26hkx.v1 import worker_pb2

MAX_SUGGESTED = 10


@dataclass(frozen=True)
class Named:
    """
    Args:
        name: as the client wrote it.
        id: of the model that answers; empty: the default model.
        custom: what a client made of that model under this name.
    """

    name: str
    id: str
    custom: CustomModel | None = None


R = TypeVar("R", bound=ModelRequest)


async def parse_named(request: Request, schema: type[R]) -> tuple[R, Named]:
    """The parsed body, with the id of its model, and what is known of that by name.

    Raises:
        InvalidRequest: the body is not valid.
        ModelNotFound: no worker has such a model, and no client made it.
    """
    body = await parse_for_model(request, schema)
    found = _checked(services_of(request), body.sent_name, body.model_id)
    body.model = found.id
    return body, found


def named(services: Services, name: str) -> Named:
    """The model that `name` refers to; a name that nobody knows is never another model's.

    Raises:
        NotReady: no worker serves.
        ModelNotFound: no worker has such a model, and no client made it.
    """
    known = services.model_names.known(name, lambda each: is_listed(services, each))
    found = _checked(services, name, known or name)
    holders(services, found.id)
    return found


def _checked(services: Services, name: str, model_id: str) -> Named:
    custom = None if is_listed(services, name) else services.custom_models.find(name)
    if not (services.pool.chat.serving or services.pool.embed.serving):
        # A call waits for a worker; ids have no such tag.
        return Named(name, without_tag(model_id), custom)
    if not is_listed(services, model_id):
        raise ModelNotFound(
            ErrorText("model_not_found", model=shorten(name)),
            param="model",
            suggestions=tuple(models_by_id(services))[:MAX_SUGGESTED],
        )
    return Named(name, model_id, custom)


def models_by_id(services: Services) -> dict[str, worker_pb2.Model]:
    """All models; of a chat and an embedding model with one id, the chat model."""
    return services.pool.embed.models() | services.pool.chat.models()


def model_of(services: Services, model_id: str) -> worker_pb2.Model:
    """What the workers say of a model ("": the default one); nothing if they have just gone."""
    for known in models_by_id(services).values():
        if same_model_id(known.id, model_id) if model_id else known.is_default:
            return known
    return worker_pb2.Model(id=model_id)
