"""gRPC reads its variables when it is imported, and not again."""

import subprocess
import sys

import pytest

LOOK = """
import os, sys

class Look:
    def find_spec(self, name, *_):
        if name == "grpc":
            print(os.environ.get("GRPC_EXPERIMENTS", ""))

sys.meta_path.insert(0, Look())
import {service}.__main__
"""


@pytest.mark.skipif(sys.platform != "linux", reason="set where it was measured")
@pytest.mark.parametrize("service", ["gateway", "chat_worker", "embed_worker"])
@pytest.mark.parametrize(("own", "seen"), [(None, "-event_engine_client"), ("ours", "ours")])
def test_they_are_set_before_any_service_imports_it(
    service: str, own: str | None, seen: str
) -> None:
    env = {"GRPC_EXPERIMENTS": own} if own else {}
    found = subprocess.run(
        [sys.executable, "-c", LOOK.format(service=service)],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert found.stdout.strip().startswith(seen)
