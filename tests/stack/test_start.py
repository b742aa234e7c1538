"""What `y26hkx serve` says at its start, and what it refuses to start with."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf as gguf_library
import numpy as np
import pytest

from tests.made_models import HONEST, gguf
from tests.running_stack import GUIDE, KEPT_VARIABLES, ROOT, RunningStack, wait_until

GUIDE_FILE = ROOT / "models" / "guide" / f"{GUIDE}.gguf"
WITHIN_S = 90


def served(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """A start that should fail, with `folder` as the working folder."""
    kept = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES}  # noqa: TID251 - the test is the outermost caller
    own = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "MEMORY_LEARNT_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "cli", "serve", "--port", "0", *arguments],
        cwd=folder,
        env=kept | own | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"MODEL_PATH": "gone.gguf"}, "MODEL_PATH: gone.gguf does not exist"),
        ({"MODELS_DIR": "gone"}, "gone does not exist"),
        ({"GATEWAY_HOST": "0.0.0.0"}, "no API keys are set"),
        ({"LLAMA_CTX": "much"}, "LLAMA_CTX"),
        ({"CHAT_WORKER_PORT": "none"}, "CHAT_WORKER_PORT=none is not a port"),
    ],
)
def test_a_start_with_wrong_settings_ends_once_with_status_2(
    tmp_path: Path, env: dict[str, str], words: str
) -> None:
    done = served(tmp_path, **env)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert words in said
    assert "Traceback" not in said
    assert said.count("cannot start") == 1
    assert "starting it again" not in said


def test_a_mistyped_name_in_the_env_file_is_refused_with_the_right_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MODEL_PAHT=x\n")
    done = served(tmp_path)
    assert done.returncode == 2, done.stdout
    assert "MODEL_PAHT is no setting of this server; did you mean MODEL_PATH?" in done.stdout


def test_an_env_file_in_utf_16_is_said(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=INFO\n", "utf-16")
    done = served(tmp_path)
    assert done.returncode == 2
    assert "UTF-16" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder = tmp_path_factory.mktemp("start")
    models = folder / "models"
    (models / "sub").mkdir(parents=True)
    shutil.copy(GUIDE_FILE, models / "own.gguf")
    shutil.copy(GUIDE_FILE, models / "sub" / "own.gguf")
    (models / "broken.gguf").write_bytes(b"nothing")
    (models / "lora.gguf").write_bytes(gguf(HONEST | {"general.type": "adapter"}))
    (models / "bert.gguf").write_bytes(gguf(HONEST | {"general.architecture": "bert"}))
    for number in range(20):
        (models / f"x{number}.gguf").write_bytes(b"nothing")
    with RunningStack(folder / "log", MODELS_DIR=str(models)) as running:
        wait_until((b"ready in" in running.log.read_bytes() for _ in iter(int, 1)), 60, "ready")
        yield running


def test_the_start_lists_models_and_why_others_are_not_taken(stack: RunningStack) -> None:
    lines = [
        line
        for line in stack.log.read_text("utf-8").splitlines()
        if "| model   " in line or "| not taken" in line or "more: y26hkx ls" in line
    ]
    said = "\n".join(lines)
    assert len(lines) == 12
    assert "own (chat): 8 MiB" in said
    assert "sub/own (chat): 8 MiB" in said
    assert f"{GUIDE} (chat, default)" in said
    assert "broken: this is not a GGUF file" in said
    assert "lora: it is an adapter" in said
    assert "more: y26hkx ls" in lines[-1]


def test_a_port_with_a_server_of_ours_is_said(stack: RunningStack, tmp_path: Path) -> None:
    done = served(tmp_path, "--port", str(stack.port))
    assert done.returncode == 2
    assert f"a server already answers at http://127.0.0.1:{stack.port}" in done.stderr
    assert "y26hkx stop" in done.stderr


def test_a_model_without_weights_is_listed_with_its_reason(stack: RunningStack) -> None:
    assert "adapter" in str(stack.models()["lora"]["failure"])


def test_models_toml_changes_one_model_while_the_server_runs(stack: RunningStack) -> None:
    file = stack.log.parent / "models" / "models.toml"

    def contexts() -> tuple[object, object]:
        models = stack.models()
        return models["own"]["context_length"], models["sub/own"]["context_length"]

    before = contexts()
    file.write_text('[models."own"]\ncontext = 1024\nsystem_prompt = "Be brief."\n')
    wait_until((contexts() == (1024, before[1]) for _ in iter(int, 1)), 30, "it is taken")
    asked = {"model": "own", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    said = stack.http.post("/v1/chat/completions", json=asked).json()
    without = stack.http.post("/v1/chat/completions", json=asked | {"model": "sub/own"}).json()
    assert said["usage"]["prompt_tokens"] > without["usage"]["prompt_tokens"]
    file.write_text("[models")
    wait_until(("models.toml: " in stack.tail() for _ in iter(int, 1)), 30, "it is logged")
    assert contexts() == (1024, before[1])
    file.unlink()
    wait_until((contexts() == before for _ in iter(int, 1)), 30, "it is forgotten")


OPTIONS = """
[models."own"]
aliases = ["mine:small"]
context = 2048
temperature = 0
max_tokens = 6
chat_template = "own.jinja"
"""
LORA = """
[models."sub/own"]
temperature = 0
max_tokens = 6
lora = "own-adapter.gguf"
"""


def test_a_model_has_names_sampling_a_template_and_an_adapter_of_its_own(
    stack: RunningStack,
) -> None:
    folder = stack.log.parent / "models"
    (folder / "own.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    write_adapter(folder / "own-adapter.gguf")
    (folder / "models.toml").write_text(OPTIONS + LORA)
    try:
        wait_until(("mine:small" in stack.models() for _ in iter(int, 1)), 30, "it is taken")
        asked = {"model": "mine:small", "messages": [{"role": "user", "content": "hi"}]}
        said = stack.http.post("/v1/chat/completions", json=asked).json()
        # That of the template, and not of the model's own.
        assert said["usage"]["prompt_tokens"] < 6, said
        assert said["usage"]["completion_tokens"] <= 6
        assert stack.models()["own"]["chat_template"] == "configured"
        loaded = stack.http.post(
            "/v1/models/load", json={"model": "mine:small", "context_length": 512}
        ).json()
        assert loaded["context_length"] == 512, loaded
        prompt = {"prompt": "What is a model?"}
        answers = [
            stack.http.post("/v1/completions", json=prompt | {"model": model}).json()
            for model in ("own", "sub/own")
        ]
        assert answers[0]["choices"][0]["text"] != answers[1]["choices"][0]["text"], answers
    finally:
        (folder / "models.toml").unlink()
    wait_until(("mine:small" not in stack.models() for _ in iter(int, 1)), 30, "it is forgotten")


def write_adapter(path: Path) -> None:
    """A LoRA adapter for the guide that changes its answers."""
    base = gguf_library.GGUFReader(GUIDE_FILE)
    name = "blk.0.ffn_down.weight"
    n_in, n_out = (int(n) for n in next(t for t in base.tensors if t.name == name).shape)
    writer = gguf_library.GGUFWriter(path, "qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    noise = np.random.default_rng(1).standard_normal
    writer.add_tensor(f"{name}.lora_a", noise((1, n_in)).astype(np.float32))
    writer.add_tensor(f"{name}.lora_b", noise((n_out, 1)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_start_with_a_wrong_models_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models.toml").write_text('[models."m"]\ncontxt = 1\n')
    done = served(tmp_path)
    assert done.returncode == 2
    assert "contxt" in done.stdout
