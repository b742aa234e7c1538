"""A worker's gRPC server, from bind to drain.

The first signal starts the drain: health becomes NOT_SERVING and new calls are refused with
NotReady, so that the gateway uses another worker. Running calls get `drain_s` seconds. Then the
models are unloaded. A second signal skips the waiting.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from common.loopback import is_loopback
from common.parent_watch import exit_with_parent
from common.rpc_limits import MAX_MESSAGE_BYTES
from common.setting_origins import changed_line
from common.tracing import Tracer
from protos.y26hkx.v1 import worker_pb2_grpc
from worker_runtime.aio import first_of
from worker_runtime.catalog import Capability, Catalog
from worker_runtime.clock import SystemClock
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.lifecycle import calibration
from worker_runtime.lifecycle.load_options import (
    LoadOptions,
    WithContext,
    refuse_context,
    single_option,
)
from worker_runtime.lifecycle.manager import Models
from worker_runtime.lifecycle.preload import load_unasked
from worker_runtime.machine.kernel_memory import FILE as KERNELS_FILE
from worker_runtime.machine.kernel_memory import KernelMemory
from worker_runtime.memory.ledger import FolderLedger, Ledger, NoLedger, own_folder
from worker_runtime.memory.probe import SystemMemoryProbe
from worker_runtime.memory.trim import release_start_up_memory
from worker_runtime.off_loop import in_thread
from worker_runtime.rpc import logs
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.interceptor import RpcInterceptor
from worker_runtime.rpc.metrics import metrics_page
from worker_runtime.rpc.shutdown import StopRequests, stop_on_signals
from worker_runtime.rpc.worker_service import WorkerServicer
from worker_runtime.settings import RuntimeSettings

OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two servers on one port would silently share its connections.
    ("grpc.so_reuseport", 0),
    # Gateways ping a silent stream every 10 s, which gRPC's default limits treat as an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", 4000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
SERVICES: dict[Capability, str] = {
    "chat": "y26hkx.v1.ChatService",
    "embed": "y26hkx.v1.EmbedService",
}
WORKER_SERVICE = "y26hkx.v1.WorkerService"
# Time in which watchers can read the last status before their streams end.
LAST_STATUS_S = 0.5
# Engines are stopped after the drain; a worker without a parent ends after this time anyway.
FORCE_AFTER_DRAIN_S = 15.0

log = logging.getLogger(__name__)


def local_models(
    settings: RuntimeSettings,
    catalog: Catalog,
    load_options: LoadOptions = single_option,
    with_context: WithContext = refuse_context,
    standby: tuple[str, str] | None = None,
) -> Models:
    """Build `Models` with real processes, time and memory. Enter it before use.

    Args:
        standby: the module and the backend of most models, if a process shall wait for one.
    """
    probe = SystemMemoryProbe()
    launcher = ProcessLauncher(probe, settings.engine_environment, standby=standby)
    kernels = KernelMemory(settings.learnt_dir / KERNELS_FILE, settings.selftest_environment)
    calibration_file = calibration.Calibration(settings.learnt_dir / calibration.FILE)
    return Models(
        catalog,
        settings.policy(),
        launcher,
        SystemClock(),
        probe,
        standby=launcher if standby else None,
        load_options=calibration_file.corrected(load_options),
        with_context=with_context,
        on_measured=calibration_file.note,
        kernels=kernels,
        ledger=_ledger(settings),
        off_loop=in_thread,
    )


def _ledger(settings: RuntimeSettings) -> Ledger:
    try:
        return FolderLedger(settings.ledger_dir or own_folder())
    except OSError as error:
        # A worker that is alone on its machine, as in a container, needs no ledger.
        log.warning("the reservations of this machine's other workers are not known: %s", error)
        return NoLedger()


async def serve(
    *,
    settings: RuntimeSettings,
    capability: Capability,
    models: Models,
    add_service: Callable[[grpc.aio.Server], None],
    preload: bool = False,
    on_bound: Callable[[int], None] = lambda port: None,
    inflight_rpcs: InflightRpcs | None = None,
) -> None:
    """Serve `models` until a stop signal. Returns after draining and unloading.

    Args:
        add_service: adds the servicer of the worker's capability.
        preload: also load the default model at once, in addition to those that settings name.
        on_bound: called with the port as soon as calls are accepted.
        inflight_rpcs: shared with a servicer that counts calls which are not RPCs of their own.
    Raises:
        RuntimeError: the port is in use.
    """
    logs.configure(settings.log_level, settings.log_format)
    log.info("settings: %s", changed_line(settings))
    requests, inflight_rpcs = StopRequests(), inflight_rpcs or InflightRpcs()
    tracer = inflight_rpcs.tracer = Tracer.of(settings, f"{capability}-worker")
    services = ("", SERVICES[capability], WORKER_SERVICE)
    health = health_aio.HealthServicer()
    server = grpc.aio.server(
        interceptors=(RpcInterceptor(settings.token.get_secret_value(), inflight_rpcs),),
        options=OPTIONS,
    )
    add_service(server)
    control = WorkerServicer(models, capability, inflight_rpcs.draining)
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(control, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        (*services[1:], "grpc.health.v1.Health", reflection.SERVICE_NAME), server
    )
    for service in services:
        await health.set(service, health_pb2.HealthCheckResponse.SERVING)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = _listen(server, f"{host}:{settings.port}", settings)
    with stop_on_signals(requests), metrics_page(settings.host, settings.metrics_port, models):
        await server.start()
        log.info("%s worker listens on %s:%d", capability, host, port)
        on_bound(port)
        if settings.exit_with_parent:
            exit_with_parent(settings.drain_s + FORCE_AFTER_DRAIN_S)
        release_start_up_memory()
        unasked = [
            asyncio.create_task(load_unasked(models, settings, default=preload)),
            asyncio.create_task(models.keep_standby()),
        ]
        try:
            await requests.first.wait()
        finally:
            for task in unasked:
                task.cancel()
            await asyncio.wait(unasked)
        log.info("draining: running calls get up to %.0f s", settings.drain_s)
        inflight_rpcs.draining.set()
        models.changes.notify()
        await health.enter_graceful_shutdown()
        await first_of(
            inflight_rpcs.all_ended(), asyncio.sleep(settings.drain_s), requests.second.wait()
        )
        await server.stop(LAST_STATUS_S)
        await _unload_all(models, requests)
        if tracer is not None:
            await tracer.close()
        log.info("stopped")


def _listen(server: grpc.aio.Server, address: str, settings: RuntimeSettings) -> int:
    """The bound port. Off loopback both sides show certificates, if settings name any."""
    certificates = settings.certificates()
    if certificates is None or is_loopback(settings.host):
        return server.add_insecure_port(address)
    authority, chain, key = certificates
    shown = grpc.ssl_server_credentials([(key, chain)], authority, require_client_auth=True)
    return server.add_secure_port(address, shown)


async def _unload_all(models: Models, requests: StopRequests) -> None:
    closed = await first_of(_close(models, hurry=False), requests.second.wait())
    if closed is None:
        await models.close(hurry=True)


async def _close(models: Models, *, hurry: bool) -> bool:
    await models.close(hurry=hurry)
    return True
