"""Which model a request of Ollama's API is about, and what the workers say of it."""

from dataclasses import dataclass

from common.error_texts import ErrorText
from common.errors import ModelNotFound, NotReady
from common.model_ids import same_model_id
from gateway.custom_models import CustomModel
from gateway.errors import shorten
from gateway.routes.named_model import is_listed
from gateway.services import Services
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


def named(services: Services, name: str) -> Named:
    """
    Raises:
        NotReady: no worker serves.
        ModelNotFound: no worker has such a model, and no client made it.
    """
    if not (services.pool.chat.serving or services.pool.embed.serving):
        raise NotReady(ErrorText("no_worker_reached"), retry_after_s=2)
    custom = None if is_listed(services, name) else services.custom_models.find(name)
    found = services.model_names.known(name, lambda each: is_listed(services, each))
    if found is not None and is_listed(services, found):
        return Named(name, found, custom)
    if services.settings.falls_back:
        return Named(name, "")
    raise ModelNotFound(
        ErrorText("model_not_found", model=shorten(name)),
        param="model",
        suggestions=tuple(models_by_id(services))[:MAX_SUGGESTED],
    )


def models_by_id(services: Services) -> dict[str, worker_pb2.Model]:
    """All models; of a chat and an embedding model with one id, the chat model."""
    return services.pool.embed.models() | services.pool.chat.models()


def model_of(services: Services, model_id: str) -> worker_pb2.Model:
    """What the workers say of a model ("": the default one); nothing if they have just gone."""
    for known in models_by_id(services).values():
        if same_model_id(known.id, model_id) if model_id else known.is_default:
            return known
    return worker_pb2.Model(id=model_id)
