"""Calls that our OpenAPI document describes, and calls that it forbids: schemathesis writes both.

`python -m tests.fuzzing.api` asks the gateway with scripted workers behind it; with `--stack`, real
services and models. It prints what was answered how often, and each reply that the document lacks.
"""

import argparse
import asyncio
import contextlib
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, strategies
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from gateway.keys.administration import add_key
from gateway.keys.record import Rights
from protos.y26hkx.v1 import chat_pb2
from tests.contract.documented import document
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID, count_up
from tests.running_stack import GUIDE, MINILM, RunningStack

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
# A worker may be busy or slow; everything else above 499 is a bug.
MAY_FAIL = (503, 504)
FIRST_FAILURE = 500
PER_ROUND = 25
TIMEOUT_S = 60
MOST_TOKENS = 16
# Headers that we read, and no operation describes.
HEADERS = (
    "accept-language",
    "origin",
    "retry-after",
    "traceparent",
    "x-request-id",
    "x-request-timeout",
    "x-stainless-read-timeout",
)
_odd_headers = strategies.dictionaries(
    strategies.sampled_from(HEADERS),
    strategies.text(strategies.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40)
    .map(str.strip),
    max_size=2,
)  # fmt: skip


class Limits(NamedTuple):
    """
    Args:
        n_calls: about how many calls to make.
        until_s: when to stop anyway, by `time.monotonic`.
        only: a part of the paths to call.
    """

    n_calls: int
    until_s: float = math.inf
    only: str = ""


@dataclass
class Findings:
    """
    Args:
        models: ids of models.
        made: ids of what the calls made.
        statuses: how often an operation answered with a status.
        failures: what is wrong with an answer, and a command that asks for it.
    """

    models: tuple[str, ...]
    made: list[str] = field(default_factory=lambda: ["none"])
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def n_calls(self) -> int:
        return self.statuses.total()


def fuzz(url: str, key: str, models: tuple[str, ...], limits: Limits) -> Findings:
    """Make valid and wrong calls of each operation in turn.

    Args:
        key: of an admin.
        models: ids of models.
    """
    findings = Findings(models)
    schema = schemathesis.openapi.from_dict(document())
    kinds = [
        (operation, mode)
        for operation in (each.ok() for each in schema.get_all_operations() if isinstance(each, Ok))
        for mode in GenerationMode
        # Any text is a valid id, and what has no input has no wrong one.
        if limits.only in operation.path and (mode is GenerationMode.POSITIVE or operation.body)
    ]
    per_round = min(PER_ROUND, max(1, limits.n_calls // len(kinds)))
    session = requests.Session()
    session.headers["authorization"] = f"Bearer {key}"
    for seed in range(sys.maxsize):
        for operation, mode in kinds:
            _round(operation, mode, per_round, seed, _Caller(url, session, findings))
            if findings.n_calls >= limits.n_calls or time.monotonic() > limits.until_s:
                return findings
    return findings


def _round(
    operation: "APIOperation[Any, Any, Any, Any]",
    mode: GenerationMode,
    n: int,
    seed: int,
    caller: "_Caller",
) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(mode), _odd_headers, strategies.integers(0, 2**16))
    def calls(case: "Case[Any]", headers: dict[str, str], choice: int) -> None:
        if mode is GenerationMode.POSITIVE:
            caller.aim(case, choice)
        caller.call(case, headers)

    calls()


class _Caller:
    def __init__(self, url: str, session: requests.Session, findings: Findings) -> None:
        self._url = url
        self._session = session
        self._findings = findings

    def aim(self, case: "Case[Any]", choice: int) -> None:
        """Let three of four calls name something that there is: most names mean nothing."""
        if choice % 4 == 0:
            return
        models, made = self._findings.models, self._findings.made
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = models[choice % len(models)]
        for name in case.path_parameters:
            ids = models if name == "model_id" else made
            case.path_parameters[name] = ids[choice % len(ids)]

    def call(self, case: "Case[Any]", headers: dict[str, str]) -> None:
        asked = case.operation.label
        try:
            reply = case.call(
                base_url=self._url, session=self._session, headers=headers, timeout=TIMEOUT_S
            )
        except requests.RequestException as error:
            self._fail(case, f"{asked}: {type(error).__name__}", "")
            return
        self._findings.statuses[asked, reply.status_code] += 1
        if reply.status_code >= FIRST_FAILURE and reply.status_code not in MAY_FAIL:
            self._fail(case, f"{asked}: {reply.status_code}", reply.text)
        try:
            case.validate_response(reply, checks=CHECKS)
        except (FailureGroup, Failure) as failure:
            found = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
            for each in found:
                self._fail(case, f"{asked}: {reply.status_code}: {each}", reply.text)
        self._learn(reply)

    def _learn(self, reply: schemathesis.Response) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            self._findings.made.append(str(reply.json()["id"]))

    def _fail(self, case: "Case[Any]", what: str, reply: str) -> None:
        self._findings.failures.setdefault(
            what[:400], f"{case.as_curl_command()[:1000]}\n{reply[:400]}"
        )


async def count_a_little(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    """An answer of few tokens: many calls ask for hundreds of thousands."""
    request.max_tokens = min(request.max_tokens, MOST_TOKENS)
    async for event in count_up(request):
        yield event


@contextlib.asynccontextmanager
async def scripted(folder: Path, key_file: Path) -> AsyncIterator[str]:
    """The address of a gateway that keeps what it is given, with scripted workers."""
    async with (
        ScriptedWorker(generate=count_a_little) as worker,
        running_gateway(
            [worker],
            api_keys_file=key_file,
            batches_path=folder / "batches",
            responses_store_path=folder / "responses",
            custom_models_file=folder / "custom.json",
            max_pulls=0,
            access_log=False,
        ) as gateway,
    ):
        yield gateway.base_url


@contextlib.asynccontextmanager
async def real(folder: Path, key_file: Path) -> AsyncIterator[str]:
    """The address of a whole stack."""
    settings = {
        "API_KEYS_FILE": str(key_file),
        "BATCHES_PATH": str(folder / "batches"),
        "RESPONSES_STORE_PATH": str(folder / "responses"),
        "CUSTOM_MODELS_FILE": str(folder / "custom.json"),
        "MAX_PULLS": "0",
    }
    with RunningStack(folder / "stack.log", **settings) as stack:
        yield stack.base_url


async def run(limits: Limits, *, stack: bool = False) -> Findings:
    """Fuzz a gateway of its own."""
    start, models = (real, (GUIDE, MINILM)) if stack else (scripted, (CHAT_ID, EMBED_ID))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = add_key(folder / "keys.jsonl", Rights(admin=True)).text
        async with start(folder, folder / "keys.jsonl") as url:
            return await asyncio.to_thread(fuzz, url, key, models, limits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=60, help="at most")
    parser.add_argument("--stack", action="store_true", help="real services and models")
    parser.add_argument("--only", default="", help="a part of the paths to call")
    given = parser.parse_args()
    limits = Limits(given.calls, time.monotonic() + given.minutes * 60, given.only)
    found = asyncio.run(run(limits, stack=given.stack))
    by_status: Counter[int] = Counter()
    for (asked, status), n in sorted(found.statuses.items()):
        by_status[status] += n
        sys.stdout.write(f"{n:7} {status} {asked}\n")
    for what, how in found.failures.items():
        sys.stdout.write(f"\n{what}\n{how}\n")
    sys.stdout.write(
        f"\n{found.n_calls} calls: {dict(by_status)}; {len(found.failures)} failures\n"
    )
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
