"""What is not downloaded, with the reason: it cannot run, may not be read, or has no place here."""

import shutil
import sys
from pathlib import Path

import pytest

from common.errors import DiskFull, InvalidRequest, ModelNotFound, PermissionDenied, ServingError
from downloads.settings import DownloadSettings
from downloads.staging import FOLDER
from tests.made_models import gguf, safetensors
from tests.stand_in_hub import TOKEN, Fault, Repository, StandInHub
from tests.unit.downloads.pulls import CHAT, GGUF, LARGE, MIB, models, run


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
