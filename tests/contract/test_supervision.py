"""What `/health/detailed` says of the stack's services: what a supervisor told, if there is one."""

import json
from dataclasses import asdict

from cli.service import Condition
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker


async def test_without_a_supervisor_services_are_not_mentioned(worker: ScriptedWorker) -> None:
    async with running_gateway([worker]) as gateway:
        assert "services" not in (await gateway.http.get("/health/detailed")).json()


async def test_a_service_that_keeps_crashing_is_a_warning_with_its_reason(
    worker: ScriptedWorker,
) -> None:
    crashing = Condition("breaker_open", 5, "exited with status 1: no memory", 60.0)
    async with running_gateway([worker]) as gateway:
        told = json.dumps({"services": {"embed": asdict(crashing)}}).encode()
        gateway.services.supervision.hear(told)
        body = (await gateway.http.get("/health/detailed")).json()
    assert body["status"] == "warning"
    assert "service_keeps_crashing" in body["warnings"]
    assert body["services"]["embed"]["reason"] == crashing.reason
    assert 0 < body["services"]["embed"]["next_start_in_s"] <= 60
