"""All workers of one kind: found by name, watched, and picked from."""

import asyncio
import random
from collections.abc import Callable, Sequence

from common.error_texts import ErrorText
from common.errors import NotReady
from common.loopback import is_loopback
from common.model_ids import same_model_id
from common.settings import Certificates
from gateway.pool.discovery import RESOLVE_INTERVAL_S, resolve_all
from gateway.pool.endpoint import Endpoint, RemoteEndpoint, Tls
from gateway.pool.hedging import Hedging
from gateway.pool.outliers import Outliers
from gateway.pool.retry_budget import RetryBudget
from gateway.pool.running import RunningGenerations
from gateway.pool.versions import Versions
from gateway.worker_targets import host_of, parse_targets
from protos.y26hkx.v1 import worker_pb2

Pick = Callable[[Sequence[Endpoint]], Endpoint]
# Each holds a request's body in memory.
MAX_WAITING = 256


class Workers:
    """Args:
    targets: a "name:port" for each, as configured, perhaps with its share of the calls.
    token: sent with every call; empty: none.
    certificates: for workers on other machines; None: those are called without TLS.
    wait_s: the seconds that a request waits while no worker serves, as when one is restarted.
    slow_factor: as `Outliers` takes it.
    """

    def __init__(
        self,
        targets: list[str],
        token: str,
        certificates: Certificates | None = None,
        wait_s: float = 0.0,
        slow_factor: float = 0.0,
    ) -> None:
        parsed = parse_targets(targets)
        self.targets = [target.name for target in parsed]
        self._versions = Versions(parsed)
        self.outliers = Outliers(lambda: self.endpoints, slow_factor)
        self.retries = RetryBudget()
        self.hedging = Hedging()
        self._token = token
        self._certificates = certificates
        self._wait_s = wait_s
        self.generations = RunningGenerations()
        # Requests that wait for a worker now.
        self.n_waiting = 0
        # Set when a worker begins to serve.
        self._one_serves = asyncio.Event()
        # Whether the names stand for any address: those of a service with no containers do not.
        self.has_addresses = True
        self._endpoints: dict[str, RemoteEndpoint] = {}

    async def watch(self) -> None:
        """Resolve the names and watch their workers until cancelled."""
        watching: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                found = await resolve_all(self.targets)
                self.has_addresses = bool(found)
                for address in found.keys() - self._endpoints.keys():
                    endpoint = self._connect(address, found[address])
                    self._endpoints[address] = endpoint
                    watching[address] = tasks.create_task(endpoint.watch())
                for address in self._endpoints.keys() - found.keys():
                    # A name may fail to resolve for a moment, so a serving worker stays.
                    if not self._endpoints[address].serving:
                        watching.pop(address).cancel()
                        del self._endpoints[address]
                self.outliers.compare()
                await asyncio.sleep(RESOLVE_INTERVAL_S)

    def _connect(self, address: str, target: str) -> RemoteEndpoint:
        tls, name = None, host_of(target)
        if self._certificates is not None and not is_loopback(name):
            tls = Tls(self._certificates, name)
        return RemoteEndpoint(address, target, self._token, tls, on_serving=self._one_serves.set)

    @property
    def endpoints(self) -> list[Endpoint]:
        return list(self._endpoints.values())

    @property
    def serving(self) -> list[Endpoint]:
        return [endpoint for endpoint in self.endpoints if endpoint.serving]

    async def pick(
        self,
        model: str,
        pick: Pick,
        not_these: Sequence[Endpoint] = (),
        point: Callable[[], float] = random.random,
    ) -> Endpoint:
        """A serving worker, and one that lists `model` if there is any.

        Args:
            point: which version of the workers, from 0 to 1; asked if they have shares.
        Raises:
            NotReady: no worker serves, and none began to in time.
        """
        serving = self.serving
        if not serving:
            await self._wait()
            serving = self.serving
        if not_these:
            serving = [endpoint for endpoint in serving if endpoint not in not_these]
        if not serving:
            raise NotReady(
                ErrorText("no_worker_free"),
                retry_after_s=2,
                suggestions=(ErrorText("wait_for_worker"),),
            )
        listing = [e for e in serving if e.lists(model)] or serving
        found = self.outliers.sound(listing)
        return pick(self._versions.choose(found, point()) if self._versions else found)

    async def _wait(self) -> None:
        """Wait until a worker serves, for a bounded time, and as one of a bounded number."""
        if self.n_waiting >= MAX_WAITING:
            return
        self.n_waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                while not self.serving:
                    self._one_serves.clear()
                    await self._one_serves.wait()
        except TimeoutError:
            # The caller finds that no worker serves.
            pass
        finally:
            self.n_waiting -= 1

    def known_id(self, model: str) -> str:
        """The id of `model` as workers write it ("": the default model); "" if no worker has it."""
        return next(
            (
                known.id
                for endpoint in self.serving
                for known in endpoint.status.models
                if (same_model_id(known.id, model) if model else known.is_default)
            ),
            "",
        )

    def models(self) -> dict[str, worker_pb2.Model]:
        """Every model by id, as the worker has it where it is furthest in its lifecycle."""
        found: dict[str, worker_pb2.Model] = {}
        for endpoint in self.serving:
            for model in endpoint.models():
                known = found.get(model.id)
                if known is None or _progress(model) > _progress(known):
                    found[model.id] = model
        return found


def _progress(model: worker_pb2.Model) -> int:
    return 0 if model.state == worker_pb2.MODEL_STATE_FAILED else model.state
