"""How tokens are chosen, from a request's fields and the server's defaults."""

from dataclasses import dataclass, field, replace

from gateway.schemas.sampling import NO_LIMIT, SamplingFields
from protos.y26hkx.v1 import chat_pb2, worker_pb2

NO_THINKING = ("none", "minimal")
ANY_SEED = -1


@dataclass(frozen=True)
class ChatDefaults:
    """What a request means that leaves these out.

    Args:
        max_tokens: of APIs whose answers have a limit unless a client lifts it.
        of_model: what models.toml says of the model, which is so in all APIs.
    """

    temperature: float
    top_p: float
    max_tokens: int
    of_model: worker_pb2.SamplingDefaults = field(default_factory=worker_pb2.SamplingDefaults)

    def with_model(self, of_model: worker_pb2.SamplingDefaults) -> "ChatDefaults":
        own = {each.name: value for each, value in of_model.ListFields()}
        known = {name: value for name, value in own.items() if hasattr(self, name)}
        return replace(self, **known, of_model=of_model)

    def complete(self, sampling: chat_pb2.Sampling) -> chat_pb2.Sampling:
        """`sampling`, with the defaults in fields that are not set."""
        values = {each.name: value for each, value in self.of_model.ListFields()}
        values |= {"temperature": self.temperature, "top_p": self.top_p}
        given = {each.name for each, _ in sampling.ListFields()}
        for name, value in values.items():
            if name != "max_tokens" and name not in given:
                setattr(sampling, name, value)
        return sampling

    @property
    def models_limit(self) -> int | None:
        """The model's longest answer where a request names none; None: models.toml has none."""
        return self.of_model.max_tokens if self.of_model.HasField("max_tokens") else None


def sampling(body: SamplingFields, defaults: ChatDefaults) -> chat_pb2.Sampling:
    bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    asked = chat_pb2.Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        # Negative seeds are seeds too, but for the one that says any.
        seed=None if body.seed in (None, ANY_SEED) else body.seed % 2**64,
        logit_bias=bias,
    )
    return defaults.complete(asked)


def token_limit(asked: int | None, defaults: ChatDefaults) -> int | None:
    """How many tokens an answer may have; None: as many as the context leaves."""
    if asked == NO_LIMIT:
        return None
    return defaults.max_tokens if asked is None else asked


def stop_strings(body: SamplingFields) -> list[str]:
    return [body.stop] if isinstance(body.stop, str) else body.stop or []


def effort_kwargs(effort: str | None) -> dict[str, str | bool]:
    """What an effort of reasoning means to a model's template."""
    if effort is None:
        return {}
    if effort in NO_THINKING:
        return {"enable_thinking": False}
    return {"reasoning_effort": effort}
