"""What is said before a download about 20 made repositories, and what is said of the files then."""

import itertools

import pytest

from chat_worker.settings import ChatSettings
from cli.capacity import capacities
from downloads.settings import DownloadSettings
from embed_worker.settings import EmbedSettings
from tests.made_models import gguf
from tests.stand_in_hub import Repository, StandInHub
from tests.unit.downloads.pulls import CHAT, plan_of
from worker_runtime.machine import read_machine

MIB = 1 << 20
# Layers and their width: the KV cache is most of what such a model needs.
SHAPES = tuple(itertools.product((4, 16, 32, 48, 80), (256, 1024, 2048, 4096)))
LIMIT_GB = "0.5"


def test_the_fits_of_twenty_repositories_are_those_of_the_files(
    hub: StandInHub, settings: DownloadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_MEMORY_LIMIT_GB", LIMIT_GB)
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    predicted = {}
    for layers, width in SHAPES:
        name = f"m-{layers}-{width}"
        shape = {"block_count": layers, "embedding_length": width, "context_length": 8192}
        fields = {f"qwen2.{key}": value for key, value in shape.items()}
        content = gguf(CHAT | fields)
        hub.hugging_face[f"org/{name}"] = Repository({f"{name}-Q8_0.gguf": content})
        predicted[f"{name}-Q8_0"] = plan_of(f"org/{name}", settings, force=True).fits[0]
        (settings.models_dir / f"{name}-Q8_0.gguf").write_bytes(content)
    found = {one.id: one for one in capacities(ChatSettings(), EmbedSettings(), read_machine())}
    for id, fit in predicted.items():
        assert fit.verdict == found[id].verdict.replace(" ", "_"), id
        assert abs(fit.need_bytes - found[id].need_bytes) < MIB, id
    assert {fit.verdict for fit in predicted.values()} == {"fits", "fits_reduced", "does_not_fit"}
