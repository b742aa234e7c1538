"""Downloads from a hub on a real socket: what arrives, what is refused, what a break costs."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import (
    BackendLoadFailed,
    DiskFull,
    DownloadFailed,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    RateLimited,
    ServingError,
)
from downloads.events import Done, Downloading, Event, Planned
from downloads.plan import Plan
from downloads.pull import pull
from downloads.settings import DownloadSettings
from downloads.staging import FOLDER
from downloads.transfer import PART_BYTES
from tests.made_models import HONEST, gguf, safetensors
from tests.stand_in_hub import TOKEN, Fault, Repository, StandInHub
from worker_runtime.model_files.default_model import default_model

MIB = 1 << 20
CHAT = {name: value for name, value in HONEST.items() if "pooling" not in name}
GGUF = gguf(CHAT)
# Of more than two parts of a download.
LARGE = GGUF + os.urandom(40 * MIB)


def run(name: str, settings: DownloadSettings, **options: Any) -> tuple[Done, list[Event]]:
    events: list[Event] = []
    done = pull(name, settings, events.append, **options)
    assert done is not None
    return done, events


def plan_of(name: str, settings: DownloadSettings, **options: Any) -> Plan:
    events: list[Event] = []
    assert pull(name, settings, events.append, plan_only=True, **options) is None
    (planned,) = (event for event in events if isinstance(event, Planned))
    return planned.plan


def models(settings: DownloadSettings) -> dict[str, bytes]:
    """The visible files of the models folder."""
    root = settings.models_dir
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not str(path.relative_to(root)).startswith(".")
    }


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


def test_a_repository_that_lacks_a_part_offers_no_such_model(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m-Q8_0-00001-of-00002.gguf": GGUF})
    with pytest.raises(InvalidRequest, match="neither GGUF files nor safetensors"):
        run("org/m", settings)


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


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, "pickled"),
        ({"README.md": b"x"}, "neither GGUF files nor safetensors"),
        (
            {
                "config.json": b'{"architectures": ["XForCausalLM"], "auto_map": {}}',
                "model.safetensors": safetensors(),
            },
            "auto_map",
        ),
        ({"m.gguf": b"no model at all" * 9}, "not a GGUF file"),
        ({"m.gguf": GGUF[:80]}, "truncated"),
        ({"m.gguf": gguf(CHAT | {"general.architecture": "clip"})}, "do not chat"),
        ({"../../evil-Q4_0.gguf": GGUF}, "is not taken"),
        ({"aux.json": b"{}", "model.safetensors": safetensors()}, "is not taken"),
    ],
)
def test_what_cannot_run_is_refused_before_it_is_downloaded(
    hub: StandInHub, settings: DownloadSettings, files: dict[str, bytes], reason: str
) -> None:
    hub.hugging_face["org/m"] = Repository(files)
    with pytest.raises(ServingError, match=reason):
        run("org/m", settings)
    assert models(settings) == {}
    assert not list(settings.models_dir.parent.rglob("evil*"))


def test_an_embedding_gguf_goes_where_embedding_models_are(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/bge"] = Repository(
        {"bge-q8_0.gguf": gguf(CHAT | {"general.architecture": "bert", "bert.pooling_type": 2})}
    )
    done, _ = run("org/bge", settings)
    assert list(models(settings)) == [os.path.join("embedding", "bge-q8_0.gguf")]
    assert not done.is_default


def test_the_largest_variant_that_fits_is_chosen_and_whole_weights_are_not(
    hub: StandInHub, settings: DownloadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"Q2_K": 1, "Q4_K_M": 2, "Q8_0": 30, "F16": 31}
    files = {f"m-{name}.gguf": GGUF + bytes(size * MIB) for name, size in sizes.items()}
    hub.hugging_face["org/m"] = Repository(files)
    assert plan_of("org/m", settings).variant == "Q8_0"
    all_fits = plan_of("org/m", settings).fits
    assert [fit.variant for fit in all_fits] == ["Q2_K", "Q4_K_M", "Q8_0", "F16"]
    assert all(fit.slots == 4 and fit.context_tokens == 512 for fit in all_fits)
    # A limit between the third and the second.
    monkeypatch.setenv("LOAD_LADDER", "0")
    limit = (all_fits[1].need_bytes + all_fits[2].need_bytes) / 2 / (1 << 30)
    monkeypatch.setenv("MODEL_MEMORY_LIMIT_GB", str(limit))
    smaller = plan_of("org/m", settings)
    assert smaller.variant == "Q4_K_M"
    assert [fit.verdict for fit in smaller.fits] == ["fits", "fits", *["does_not_fit"] * 2]
    monkeypatch.setenv("MODEL_MEMORY_LIMIT_GB", "0.001")
    with pytest.raises(BackendLoadFailed, match="the smallest, Q2_K"):
        run("org/m", settings)
    assert plan_of("org/m", settings, force=True).variant == "Q2_K"


def test_of_different_models_in_one_repository_each_has_its_own_estimate(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    large = gguf(CHAT | {"qwen2.block_count": 64, "qwen2.embedding_length": 8192})
    hub.hugging_face["org/both"] = Repository(
        {"small-Q4_0.gguf": GGUF + bytes(MIB), "large-Q8_0.gguf": large}
    )
    needs = {fit.variant: fit.need_bytes for fit in plan_of("org/both", settings).fits}
    assert needs["Q8_0"] > 2 * needs["Q4_0"]
    hub.hugging_face["org/many"] = Repository({f"m{n}x-Q4_0.gguf": GGUF for n in range(9)})
    with pytest.raises(InvalidRequest, match="many models"):
        run("org/many", settings)
    assert plan_of("hf.co/org/many/m3x-Q4_0.gguf", settings).model == "m3x-Q4_0"


def test_an_unknown_variant_is_refused_with_those_that_there_are(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m-Q4_K_M.gguf": GGUF, "m-Q8_0.gguf": GGUF})
    with pytest.raises(InvalidRequest, match="there are: Q4_K_M, Q8_0"):
        run("org/m:Q5_K_M", settings)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("org/unknown", ModelNotFound, "no model org/unknown"),
        ("modelscope.cn/org/unknown", ModelNotFound, "no model org/unknown"),
        ("ollama.com/library/unknown", ModelNotFound, "no model library/unknown"),
    ],
)
def test_an_unknown_repository_is_said(
    hub: StandInHub, settings: DownloadSettings, name: str, kind: type[ServingError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run(name, settings)


def test_a_gated_repository_needs_a_token_which_no_other_machine_gets(
    hub: StandInHub, settings: DownloadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.hugging_face["org/gated"] = Repository({"g.gguf": LARGE}, is_gated=True)
    with pytest.raises(PermissionDenied) as refused:
        run("org/gated", settings)
    assert any("terms" in suggestion for suggestion in refused.value.suggestions)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("PULL_PRIVATE_ADDRESSES", "1")
    elsewhere = hub.address.replace("127.0.0.1", "localhost")
    hub.files["/other/g.gguf"] = LARGE
    hub.faults.append(Fault("/cdn/", "away", target=f"{elsewhere}/other/g.gguf"))
    run("org/gated", DownloadSettings(_env_file=None))
    assert models(settings) == {"g.gguf": LARGE}
    assert hub.asked("/other/")
    assert not any(one.authorization for one in hub.asked("/other/"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, PermissionDenied), (403, PermissionDenied), (404, ModelNotFound)],
)
def test_a_refusal_in_the_middle_has_its_reason(
    hub: StandInHub, settings: DownloadSettings, status: int, kind: type[ServingError]
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    hub.faults.append(Fault("/cdn/", "status", status))
    with pytest.raises(kind):
        run("org/m", settings)
    assert models(settings) == {}


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (500, DownloadFailed)])
def test_a_hub_that_is_busy_or_broken_is_said(
    hub: StandInHub, settings: DownloadSettings, status: int, kind: type[ServingError]
) -> None:
    hub.faults.append(Fault("/api/", "status", status))
    for name in ("org/m", "modelscope.cn/org/m"):
        with pytest.raises(kind):
            run(name, settings)


def test_connections_that_break_or_stall_or_fail_for_a_while_cost_only_their_rest(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    hub.faults += [
        Fault("/cdn/", "status", 500, times=2),
        Fault("/cdn/", "cut", 3 * MIB, times=4),
        Fault("/cdn/", "stall", 3 * MIB, times=2),
    ]
    run("org/m", settings)
    assert models(settings) == {"m.gguf": LARGE}


def test_a_server_without_ranges_sends_the_whole(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.files["/x/m.gguf"] = LARGE
    hub.faults.append(Fault("/x/", "whole"))
    run(f"{hub.address}/x/m.gguf", settings)
    assert models(settings) == {"m.gguf": LARGE}


def test_a_wrong_checksum_shows_nothing_and_the_next_download_is_whole(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    with pytest.raises(DownloadFailed, match="checksum"):
        run_with_faults(hub, settings, Fault("/cdn/", "wrong"))
    assert models(settings) == {}
    run("org/m", settings)
    assert models(settings) == {"m.gguf": LARGE}


def test_a_hub_that_goes_down_in_the_middle_loses_nothing(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    # The first part comes whole; afterwards the hub is down.
    down = Fault("/cdn/", "status", 503)
    with pytest.raises(DownloadFailed):
        run_with_faults(hub, settings, Fault("/cdn/", "cut", PART_BYTES, times=1), down)
    assert models(settings) == {}
    hub.seen.clear()
    run("org/m", settings)
    assert models(settings) == {"m.gguf": LARGE}
    (journal,) = [PART_BYTES * n for n in range(3)][:1]
    asked = {one.range.partition("-")[0] for one in hub.asked("/cdn/")}
    assert f"bytes={journal + PART_BYTES}" in asked


def run_with_faults(hub: StandInHub, settings: DownloadSettings, *faults: Fault) -> None:
    """Download org/m; what goes wrong begins after the plan is made."""

    def agree(_: object) -> bool:
        hub.faults += faults
        return True

    try:
        pull("org/m", settings, lambda event: None, agree=agree)
    finally:
        hub.faults.clear()


def test_a_disk_without_room_is_said_before_anything_is_downloaded(
    hub: StandInHub, settings: DownloadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    usage = shutil.disk_usage(settings.models_dir)._replace(free=50 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match="50 MiB free"):
        run("org/m", settings)


def test_another_file_of_that_name_is_never_overwritten(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": GGUF})
    (settings.models_dir / "m.gguf").write_bytes(b"mine")
    with pytest.raises(InvalidRequest, match="already has another"):
        run("org/m", settings)
    assert models(settings) == {"m.gguf": b"mine"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
def test_links_in_the_models_folder_lead_nowhere(
    hub: StandInHub, settings: DownloadSettings, tmp_path: Path
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": GGUF})
    outside = tmp_path / "outside"
    outside.mkdir()
    (settings.models_dir / FOLDER).symlink_to(outside)
    with pytest.raises(InvalidRequest, match="link"):
        run("org/m", settings)
    assert list(outside.iterdir()) == []


def test_addresses_of_private_networks_and_plain_http_are_refused(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    for name in ("http://localhost:9/m.gguf", "https://127.0.0.1:9/m.gguf"):
        with pytest.raises(InvalidRequest):
            run(name, settings)
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    hub.faults.append(Fault("/cdn/", "away", target="http://169.254.169.254/latest"))
    with pytest.raises(InvalidRequest, match="without TLS"):
        run("org/m", settings)


@pytest.mark.parametrize("reply", [b"", b"[]", b"{}", b"not json", b'{"siblings": 7}', b"[" * 9999])
def test_nonsense_from_a_hub_is_an_error_of_the_hub(
    hub: StandInHub, settings: DownloadSettings, reply: bytes
) -> None:
    hub.files["/nonsense"] = reply
    hub.faults.append(Fault("/api/", "away", target=f"{hub.address}/nonsense"))
    hub.faults.append(Fault("/v2/", "away", target=f"{hub.address}/nonsense"))
    for name in ("org/m", "modelscope.cn/org/m", "ollama.com/library/m"):
        with pytest.raises((DownloadFailed, InvalidRequest)):
            run(name, settings)
