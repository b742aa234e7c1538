"""`docker compose up` for real: settings, scaling, crashes, new containers, full bodies."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.containers.composed import AUTHORIZED, Composed, docker

BIG_BODY_BYTES = 7_500_000
MINILM_DIMENSION = 384


def test_the_stack_answers_those_who_have_a_key(composed: Composed) -> None:
    assert composed.chat().status_code == httpx.codes.OK
    assert len(composed.embed().json()["data"][0]["embedding"]) == MINILM_DIMENSION
    models = f"{composed.base_url}/v1/models"
    assert httpx.get(models).status_code == httpx.codes.UNAUTHORIZED


def test_settings_of_the_env_file_reach_their_service(composed: Composed) -> None:
    reply = httpx.get(
        f"{composed.base_url}/v1/models", headers={**AUTHORIZED, "Origin": "https://app.example"}
    )
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    assert composed.post("embeddings", model="mine", input="x").status_code == httpx.codes.OK


def test_containers_run_as_nobody_special_and_cannot_write_to_their_image(
    composed: Composed,
) -> None:
    for service in ("gateway", "chat_worker", "embed_worker"):
        assert composed.compose("exec", "-T", service, "id", "-u").strip() == "10001"
        (container,) = composed.containers(service)
        assert (
            docker("inspect", "--format", "{{.HostConfig.ReadonlyRootfs}}", container) == "true\n"
        )


def test_scaling_up_and_down_under_load_loses_nothing(composed: Composed) -> None:
    with composed.under_load() as load:
        for n_workers in (3, 1):
            composed.compose(
                "up", "--detach", "--no-build", "--wait", "--scale", f"embed_worker={n_workers}"
            )
            assert len(composed.containers("embed_worker")) == n_workers
    assert load.failures == []


def test_requests_wait_for_a_worker_that_was_killed(composed: Composed) -> None:
    assert composed.chat().status_code == httpx.codes.OK
    composed.kill_processes("chat_worker")
    assert composed.chat().status_code == httpx.codes.OK
    (container,) = composed.containers("chat_worker")
    assert docker("inspect", "--format", "{{.RestartCount}}", container).strip() == "1"


def test_new_containers_of_both_workers_under_load_lose_nothing(composed: Composed) -> None:
    with composed.under_load() as load:
        for service in ("chat_worker", "embed_worker"):
            composed.compose(
                *("up", "--detach", "--no-build", "--no-deps", "--wait", "--force-recreate"),
                service,
            )
    assert load.failures == []


def test_without_embedding_workers_chat_goes_on(composed: Composed) -> None:
    composed.compose("up", "--detach", "--no-build", "--scale", "embed_worker=0", "embed_worker")
    try:
        assert composed.chat().status_code == httpx.codes.OK
        composed.until("/health/ready")
    finally:
        composed.compose("up", "--detach", "--no-build", "--wait", "--scale", "embed_worker=1")
    assert composed.embed().status_code == httpx.codes.OK


def test_large_bodies_at_once_never_kill_the_gateway(composed: Composed) -> None:
    body = json.dumps({"input": "a" * BIG_BODY_BYTES}).encode()
    headers = {**AUTHORIZED, "Content-Type": "application/json"}

    def send(_: int) -> int:
        url = f"{composed.base_url}/v1/embeddings"
        return httpx.post(url, content=body, headers=headers, timeout=120).status_code

    with ThreadPoolExecutor(16) as clients:
        statuses = set(clients.map(send, range(16)))
    assert statuses <= {200, 400, 413, 429, 503}
    (gateway,) = composed.containers("gateway")
    assert docker("inspect", "--format", "{{.RestartCount}}", gateway).strip() == "0"
