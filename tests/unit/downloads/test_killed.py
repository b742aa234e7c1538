"""A download that is killed goes on where it was: its own process, a real kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.made_models import HONEST, gguf
from tests.stand_in_hub import Fault, Repository, StandInHub

ROOT = Path(__file__).resolve().parents[3]
PART_BYTES = 16 << 20
LARGE = gguf({k: v for k, v in HONEST.items() if "pooling" not in k}) + os.urandom(60 << 20)


def started(hub: StandInHub, models: Path, connections: int = 1) -> "subprocess.Popen[bytes]":
    own = {"MODELS_DIR": str(models), "PULL_CONNECTIONS": str(connections)}
    return subprocess.Popen(
        [sys.executable, "-m", "downloads", "pull", "--", "org/m"],
        cwd=ROOT,
        env={**os.environ, **hub.environment, **own},  # noqa: TID251 - a process's environment
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_after_a_kill_only_the_rest_is_downloaded(hub: StandInHub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    with started(hub, models) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event.get("completed_bytes", 0) >= 2 * PART_BYTES:
                process.kill()
                break
    assert list(models.glob("*.gguf")) == []
    (journal,) = (models / ".downloads").glob("*/journal")
    n_done = len(journal.read_text("ascii").splitlines())
    assert n_done >= 1
    hub.seen.clear()
    with started(hub, models) as process:
        assert process.stdout is not None
        events = [json.loads(line) for line in process.stdout]
    assert events[-1]["status"] == "done"
    assert (models / "m.gguf").read_bytes() == LARGE
    begun = {one.range for one in hub.asked("/cdn/")}
    assert len(begun) <= 4 - n_done + 1, "the header, and the parts that were missing"


def test_a_download_ends_with_the_process_that_started_it(hub: StandInHub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    with started(hub, models) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        hub.faults.append(Fault("/", "stall", 0))
        process.stdin.close()
        assert process.wait(30) != 0
