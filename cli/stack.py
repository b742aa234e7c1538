"""The services of the stack: what each runs, and the environment and the secrets that it gets."""

import os
import sys
from collections.abc import Mapping, Sequence

from cli.liveness import ANSWER_WITHIN_S, grpc_health, http_status
from cli.ports import free_ports
from cli.service import ServiceSpec
from cli.settings import StackSettings
from common.secret_variables import without_secrets
from worker_runtime.machine.profile import ChosenSetting

# A service that takes longer than its own drain and this time is killed.
GRACE_S = 10.0
# The secrets that a service needs; it is given no others.
SECRETS = {
    # HF_TOKEN is for the downloads that it starts.
    "gateway": frozenset(
        {
            "API_KEYS",
            "HF_TOKEN",
            "MONITORING_API_KEY",
            "OTLP_HEADERS",
            "RATE_LIMIT_STORAGE",
            "WORKER_TOKEN",
        }
    ),
    "chat_worker": frozenset({"OTLP_HEADERS", "REMOTE_API_KEYS", "WORKER_TOKEN"}),
    "embed_worker": frozenset({"OTLP_HEADERS", "WORKER_TOKEN"}),
}


def stages(
    settings: StackSettings, port: int, choices: Sequence[ChosenSetting] = ()
) -> list[list[ServiceSpec]]:
    """The services to run, in the order in which they are stopped.

    Args:
        choices: of the profile, passed to the services as they were printed: the available memory
            may have changed when a service is started again.
    """
    chosen = free_ports(2, "127.0.0.1")
    chat_port = settings.chat_port or chosen[0]
    embed_port = settings.embed_port or chosen[1]
    shared = {choice.name: choice.value for choice in choices if choice.source == "profile"}
    shared["PROFILE_CHOICES"] = ",".join(shared)
    shared |= {
        # Without it Python holds back the output of a service until its buffer is full.
        "PYTHONUNBUFFERED": "1",
        "EXIT_WITH_PARENT": "1",
        "WORKER_HOST": "127.0.0.1",
        "CHAT_WORKER_PORT": str(chat_port),
        "EMBED_WORKER_PORT": str(embed_port),
    }
    if not settings.values.get("WORKER_TOKEN_FILE"):
        shared["WORKER_TOKEN"] = settings.values.get("WORKER_TOKEN") or os.urandom(32).hex()
    gateway = _gateway(settings, shared, port)
    workers = []
    if settings.chat_workers is None:
        workers.append(_worker("chat", "chat_worker", settings, shared, chat_port))
    if settings.embed_workers is None:
        workers.append(_worker("embed", "embed_worker", settings, shared, embed_port))
    return [[gateway], workers]


def _gateway(settings: StackSettings, shared: Mapping[str, str], port: int) -> ServiceSpec:
    own = {
        "GATEWAY_HOST": settings.host,
        "GATEWAY_PORT": str(port),
        # There is no load balancer that has to notice first, so new requests are refused at once.
        "GATEWAY_DRAIN_ACCEPT_S": settings.values.get("GATEWAY_DRAIN_ACCEPT_S", "0"),
        "CHAT_WORKERS": f"127.0.0.1:{shared['CHAT_WORKER_PORT']}",
        "EMBED_WORKERS": f"127.0.0.1:{shared['EMBED_WORKER_PORT']}",
    }
    given = {"CHAT_WORKERS": settings.chat_workers, "EMBED_WORKERS": settings.embed_workers}
    own |= {name: value for name, value in given.items() if value is not None}
    address = settings.address(port)
    return ServiceSpec(
        name="gateway",
        command=[sys.executable, "-m", "gateway"],
        env={**without_secrets(settings.inherited, SECRETS["gateway"]), **shared, **own},
        answers=lambda: http_status(address, "/health/live", ANSWER_WITHIN_S),
        drain_s=_seconds(settings, "GATEWAY_DRAIN_S", 30) + GRACE_S,
        essential=True,
        gets_conditions=True,
    )


def _worker(
    name: str, module: str, settings: StackSettings, shared: Mapping[str, str], port: int
) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        command=[sys.executable, "-m", module],
        env={**without_secrets(settings.inherited, SECRETS[module]), **shared},
        answers=lambda: grpc_health("127.0.0.1", port, ANSWER_WITHIN_S),
        drain_s=_seconds(settings, "DRAIN_SECONDS", 25) + GRACE_S,
    )


def _seconds(settings: StackSettings, name: str, default: float) -> float:
    try:
        return float(settings.values.get(name) or default)
    except ValueError:
        # The service itself reports what is wrong with it.
        return default
