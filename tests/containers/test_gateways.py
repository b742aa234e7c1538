"""Two gateways behind the profile `tls`, replaced one by one as docs/containers.md tells."""

from pathlib import Path

import httpx
import pytest

from tests.containers.composed import Composed, docker

AUTHORITY = "tls:/data/caddy/pki/authorities/local/root.crt"


@pytest.fixture
def behind_tls(images: None, tmp_path: Path) -> Composed:
    # Each gateway gets a port of its own on this machine, and Caddy those that are free.
    stack = Composed(tmp_path, COMPOSE_PROFILES="tls", Y26HKX_PORT="0")
    tls = f"    ports: !override ['127.0.0.1:{stack.port}:443']"
    (tmp_path / "docker-compose.override.yml").write_text(f"services:\n  tls:\n{tls}\n")
    (image,) = (line for line in stack.compose("config", "--images").split() if "caddy" in line)
    if not docker("image", "ls", "--quiet", image):
        pytest.skip(f"{image} is not here")
    stack.base_url = f"https://localhost:{stack.port}"
    return stack


def test_gateways_behind_tls_are_replaced_under_load_and_lose_nothing(
    behind_tls: Composed, tmp_path: Path
) -> None:
    with behind_tls as stack:
        stack.compose("up", "--detach", "--no-build", "--wait", "--scale", "gateway=2")
        stack.compose("cp", AUTHORITY, str(tmp_path / "root.crt"))
        stack.trust(tmp_path / "root.crt")
        assert stack.chat().status_code == httpx.codes.OK
        with stack.under_load() as load:
            for old in stack.containers("gateway"):
                new = ("--no-deps", "--no-recreate", "--scale", "gateway=3", "gateway")
                stack.compose("up", "--detach", "--no-build", "--wait", *new)
                docker("stop", old)
                docker("rm", old)
        assert load.failures == []
