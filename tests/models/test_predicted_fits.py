"""What a plan says of a model's memory is what a load reserves once the model is here.

The variants are real quantizations by llama.cpp; of all of them the plan reads one header.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_worker.discovery import ChatModelScan
from chat_worker.load_options import ChatLoadOptions
from chat_worker.settings import ChatSettings
from downloads.events import Event, Planned
from downloads.pull import pull
from downloads.settings import DownloadSettings
from embed_worker import memory_estimate as embed_estimate
from embed_worker.discovery import EmbedModelScan
from embed_worker.settings import EmbedSettings
from tests.stand_in_hub import Repository, StandInHub, stand_in_hub
from tests.tiny_models import write_embedder
from worker_runtime.llama_native import load_native

GUIDE = Path(__file__).resolve().parents[2] / "models" / "guide"
GGUF, FOLDER = GUIDE / "qwen2-y26hkx-guide.gguf", GUIDE / "qwen2-y26hkx-guide"
QUANTIZATIONS = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_NL")
# Of the whole need: the header's own length, and mixed types within a file.
NEAR = 0.03


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    native, folder = load_native(), tmp_path_factory.mktemp("quantized")
    made = {}
    for name in QUANTIZATIONS:
        params, target = native.llama_model_quantize_default_params(), folder / name
        params.ftype = getattr(native, f"LLAMA_FTYPE_MOSTLY_{name}")
        assert not native.llama_model_quantize(str(GGUF).encode(), str(target).encode(), params)
        made[f"guide-{name}.gguf"] = target.read_bytes()
    return made | {"guide-F16.gguf": GGUF.read_bytes()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setenv("MODELS_DIR", str(models))
    with stand_in_hub() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def planned(name: str, *, plan_only: bool) -> dict[str, int]:
    """What each variant needs, by its name."""
    events: list[Event] = []
    pull(name, DownloadSettings(_env_file=None), events.append, plan_only=plan_only)
    (found,) = (event for event in events if isinstance(event, Planned))
    return {fit.variant: fit.need_bytes for fit in found.plan.fits}


def test_of_every_quantization_the_memory_is_known_before(
    hub: StandInHub, quantized: dict[str, bytes]
) -> None:
    hub.hugging_face["org/guide"] = Repository(quantized)
    said = planned("org/guide", plan_only=True)
    assert len(said) == len(quantized)
    settings = ChatSettings(_env_file=None)
    for name in said:
        planned(f"org/guide:{name}", plan_only=False)
    scan = ChatModelScan(settings)
    options = ChatLoadOptions(scan, settings)
    needs = {
        entry.id.rpartition("-")[2]: options(entry)[0].need.total
        for entry in scan().entries
        if entry.path.parent == settings.models_dir
    }
    assert needs.keys() == said.keys()
    assert said == pytest.approx(needs, rel=NEAR)


def test_of_a_folder_that_chats_and_one_that_embeds_too(hub: StandInHub, tmp_path: Path) -> None:
    embedder = tmp_path / "embedder"
    write_embedder(embedder)
    for name, folder in (("chats", FOLDER), ("embeds", embedder)):
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        hub.hugging_face[f"org/{name}"] = Repository(files)
    (chats,) = planned("org/chats", plan_only=False).values()
    (embeds,) = planned("org/embeds", plan_only=False).values()
    settings, embed_settings = ChatSettings(_env_file=None), EmbedSettings(_env_file=None)
    scan = ChatModelScan(settings)
    chat = next(entry for entry in scan().entries if entry.id == "chats")
    assert ChatLoadOptions(scan, settings)(chat)[0].need.total == chats
    embed = next(
        entry for entry in EmbedModelScan(embed_settings)().entries if entry.id == "embeds"
    )
    assert embed_estimate.load_options(embed)[0].need.total == embeds
