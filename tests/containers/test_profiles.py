"""Redis and Prometheus as the profiles start them; without their images these are skipped."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.containers.composed import AUTHORIZED, UP_WITHIN_S, Composed, docker
from tests.contract.test_measures import expressions
from tests.running_stack import wait_until

# Of the gateway and of both workers' metrics.
PORTS = [8001, 9464, 9464]


def need_image(stack: Composed, name: str) -> None:
    images = stack.compose("config", "--images").split()
    (image,) = (image for image in images if name in image)
    if not docker("image", "ls", "--quiet", image):
        pytest.skip(f"{image} is not here")


def test_two_gateways_count_together_in_redis(images: None, tmp_path: Path) -> None:
    stack = Composed(
        tmp_path,
        COMPOSE_PROFILES="redis",
        RATE_LIMIT_STORAGE="redis://redis:6379",
        RATE_LIMIT="100000/hour",
        Y26HKX_PORT="0",
    )
    need_image(stack, "redis")

    def counted() -> int:
        ask = ("exec", "-T", "redis", "redis-cli", "--raw")
        (*_, name) = ["", *stack.compose(*ask, "keys", "LIMITS*").split()]
        # A list with the time of each request.
        return int(stack.compose(*ask, "llen", name))

    def both_count() -> bool:
        before = counted()
        for url in gateways:
            reply = httpx.post(url, json={"input": "x"}, headers=AUTHORIZED, timeout=60)
            assert reply.status_code == httpx.codes.OK
        return counted() == before + len(gateways)

    with stack:
        stack.compose("up", "--detach", "--no-build", "--wait", "--scale", "gateway=2")
        gateways = [
            f"http://{docker('port', container, '8001/tcp').strip()}/v1/embeddings"
            for container in stack.containers("gateway")
        ]
        assert len(gateways) == 2
        # Each counts alone for 5 s where Redis took longer than 50 ms.
        wait_until((both_count() for _ in iter(int, 1)), UP_WITHIN_S, "both count in Redis")


def test_prometheus_reads_every_service_and_knows_what_rules_and_dashboard_ask(
    images: None, tmp_path: Path
) -> None:
    stack = Composed(tmp_path, COMPOSE_PROFILES="monitoring", MONITORING_API_KEY="scraper")
    configuration = tmp_path / "deploy/monitoring/prometheus-compose.yml"
    configuration.write_text(configuration.read_text().replace("15s", "1s"))
    # Not Grafana, whose image may be missing.
    stack.services = ("gateway", "prometheus")
    need_image(stack, "prometheus")
    with stack:
        assert stack.chat().status_code == httpx.codes.OK
        assert stack.embed().status_code == httpx.codes.OK

        def asks(path: str) -> Any:
            """What Prometheus answers the gateway, whose network it is on."""
            url = f"http://prometheus:9090/api/v1/{path}"
            code = f"import urllib.request as r; print(r.urlopen({url!r}).read().decode())"
            reply = stack.compose("exec", "-T", "gateway", "python", "-c", code)
            return json.loads(reply)["data"]

        def up() -> list[int]:
            """The ports of those that it could ask."""
            found = [t for t in asks("targets")["activeTargets"] if t["health"] == "up"]
            addresses = (target["discoveredLabels"]["__address__"] for target in found)
            return sorted(int(address.rpartition(":")[2]) for address in addresses)

        wait_until((up() == PORTS for _ in iter(int, 1)), UP_WITHIN_S, "every service is asked")
        rules = [rule for group in asks("rules")["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
        for expression in expressions():
            text = expression.replace("$__rate_interval", "5m").replace("$model", ".*")
            assert asks(f"query?query={quote(text)}")["resultType"] == "vector"
        assert asks("query?query=y26hkx_available_memory_bytes")["result"]
        assert asks("query?query=y26hkx_worker_available_memory_bytes")["result"]
