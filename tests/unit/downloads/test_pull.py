"""Downloads from hubs on a real socket: what arrives, where, and under which name."""

import os
from pathlib import Path

from downloads.events import Downloading
from downloads.settings import DownloadSettings
from downloads.staging import FOLDER
from tests.made_models import gguf, safetensors
from tests.stand_in_hub import Repository, StandInHub
from tests.unit.downloads.pulls import CHAT, GGUF, LARGE, models, plan_of, run
from worker_runtime.model_files.default_model import default_model


def test_a_file_of_hugging_face_arrives_whole_and_becomes_the_default(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/Tiny-GGUF"] = Repository({"tiny-Q4_K_M.gguf": LARGE, "README.md": b"x"})
    done, events = run("org/Tiny-GGUF", settings)
    assert models(settings) == {"tiny-Q4_K_M.gguf": LARGE}
    assert (done.model, done.is_default, done.was_there) == ("tiny-Q4_K_M", True, False)
    assert default_model(settings.models_dir) == "tiny-Q4_K_M"
    last = [event for event in events if isinstance(event, Downloading)][-1]
    assert last.completed_bytes == last.total_bytes == len(LARGE)
    # Several connections, each with a range.
    assert len({one.range for one in hub.asked("/cdn/")}) >= 3
    assert not list((settings.models_dir / FOLDER).glob("*/*.part"))


def test_a_models_folder_that_is_not_there_yet_is_made(
    hub: StandInHub, settings: DownloadSettings, tmp_path: Path
) -> None:
    hub.hugging_face["org/a"] = Repository({"a.gguf": GGUF})
    there = settings.model_copy(update={"models_dir": tmp_path / "of" / "this" / "user"})
    run("org/a", there)
    assert models(there) == {"a.gguf": GGUF}


def test_a_second_model_does_not_replace_the_default(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/a"] = Repository({"a.gguf": GGUF})
    hub.hugging_face["org/b"] = Repository({"b.gguf": GGUF})
    assert run("org/a", settings)[0].is_default
    assert not run("org/b", settings)[0].is_default
    assert default_model(settings.models_dir) == "a"


def test_what_is_there_is_not_downloaded_again(hub: StandInHub, settings: DownloadSettings) -> None:
    hub.hugging_face["org/a"] = Repository({"a.gguf": LARGE})
    run("org/a", settings)
    before = len(hub.seen)
    assert run("org/a", settings)[0].was_there
    assert len(hub.seen) - before <= 3, "it asks only what there is"


def test_modelscope_ollama_and_addresses_are_hubs_too(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.modelscope["org/scope"] = {"scope-q8_0.gguf": GGUF}
    hub.ollama["library/olla:1b"] = [
        ("application/vnd.ollama.image.template", b"{{ .Prompt }}"),
        ("application/vnd.ollama.image.model", LARGE),
    ]
    hub.files["/files/plain.gguf"] = GGUF
    run("modelscope.cn/org/scope", settings)
    run("ollama.com/library/olla:1b", settings)
    run(f"{hub.address}/files/plain.gguf", settings)
    assert models(settings) == {
        "scope-q8_0.gguf": GGUF, "olla-1b.gguf": LARGE, "plain.gguf": GGUF
    }  # fmt: skip


def test_parts_of_a_split_file_come_together_and_projectors_are_named(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    shards = {f"Q8_0/m-Q8_0-0000{n}-of-00002.gguf": GGUF for n in (1, 2)}
    hub.hugging_face["org/m"] = Repository({**shards, "mmproj-m-f16.gguf": GGUF})
    plan = plan_of("org/m", settings)
    assert plan.model == "m-Q8_0"
    assert any("mmproj-m-f16.gguf" in sentence for sentence in plan.left_out)
    run("org/m:q8_0", settings)
    assert list(models(settings)) == ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]


def test_a_folder_of_safetensors_comes_without_programs_and_pickles(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    taken = {
        "config.json": b'{"architectures": ["BertModel"], "model_type": "bert",'
        b' "max_position_embeddings": 512, "hidden_size": 8}',
        "modules.json": b'[{"type": "sentence_transformers.models.Transformer", "path": ""},'
        b' {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]',
        "1_Pooling/config.json": b"{}",
        "model.safetensors": safetensors(),
        "vocab.txt": b"a",
    }
    left = {"model.py": b"boom", "pytorch_model.bin": b"boom", "onnx/model.onnx": b"x"}
    hub.hugging_face["org/embedder"] = Repository(taken | left)
    done, _ = run("org/embedder", settings)
    assert models(settings) == {f"embedder/{name}": taken[name] for name in sorted(taken)}
    assert (done.model, done.is_default) == ("embedder", False)


def test_an_embedding_gguf_goes_where_embedding_models_are(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/bge"] = Repository(
        {"bge-q8_0.gguf": gguf(CHAT | {"general.architecture": "bert", "bert.pooling_type": 2})}
    )
    done, _ = run("org/bge", settings)
    assert list(models(settings)) == [os.path.join("embedding", "bge-q8_0.gguf")]
    assert not done.is_default
