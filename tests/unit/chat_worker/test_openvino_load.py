"""Chat models on OpenVINO: results as of transformers, conversions, refusals with reasons."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from chat_worker.backend import Backend
from chat_worker.backends.openvino.load import load
from chat_worker.conversions import CONVERSIONS, GRAPH, WEIGHTS, folder_for, refusal_of, unusable
from chat_worker.discovery import ChatModelScan
from chat_worker.engine.runner import ModelRunner, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.load_options import ChatLoadOptions
from chat_worker.pipe_messages import LoadSpec
from chat_worker.settings import ChatSettings
from common.errors import BackendLoadFailed
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.machine.processor import Processor

GUIDE = Path(__file__).parents[3] / "models" / "guide" / "qwen2-y26hkx-guide"
QUESTIONS = GUIDE.parent / "data"
N_NEW = 24
SMALL = {
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # So large that texts lead to different tokens, as with a trained model.
    "initializer_range": 0.4,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, stretched": ("llama", {"rope_parameters": LLAMA_3, "attention_bias": True}),
    "llama, tied, one head each": (
        "llama",
        {"tie_word_embeddings": True, "num_key_value_heads": 4},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3, wide heads": ("qwen3", {"head_dim": 16}),
}


def make(folder: Path, tokenizer_from: Path, kind: str, **changed: Any) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SMALL | changed))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_from / name, folder)
    return folder


def on_openvino(folder: Path, converted: Path, **changed: Any) -> Backend:
    plain: dict[str, Any] = {"backend": "openvino", "path": str(folder), "precision": "f32"}
    spec = LoadSpec(**(plain | {"n_ctx": 256, "converted_dir": str(converted)} | changed))
    return load(spec, lambda fraction, stage: None)


def item(tokens: list[int], start: int, n_rows: int) -> ScheduledTokens:
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=tokens, limit=512, sampler=sampler)
    return ScheduledTokens(sequence, 0, start, len(tokens) - start, n_rows)


def greedy(runner: ModelRunner, tokens: list[int]) -> list[int]:
    found, n_held = list(tokens), 0
    for _ in range(N_NEW):
        row = runner.run([item(found, n_held, 1)])[0]
        n_held = len(found)
        found.append(int(row.argmax()))
    runner.apply(TruncateSlot(0, 0))
    return found


def plain_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.inference_mode()
def plain_greedy(model: Any, tokens: list[int]) -> list[int]:
    found = list(tokens)
    for _ in range(N_NEW):
        found.append(int(model(torch.tensor([found])).logits[0, -1].argmax()))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_in_float32_is_that_of_transformers(
    family: str, tiny_folder: Path, tmp_path: Path
) -> None:
    kind, changed = FAMILIES[family]
    folder = make(tmp_path / "model", tiny_folder, kind, **changed)
    runner, model = on_openvino(folder, tmp_path / "converted").runner, plain_model(folder)
    for seed in range(3):
        tokens = [int(t) for t in np.random.default_rng(seed).integers(2, 1000, 90 + seed)]
        assert greedy(runner, tokens) == plain_greedy(model, tokens)
    runner.close()


def test_a_damaged_conversion_is_made_again(tiny_folder: Path, tmp_path: Path) -> None:
    on_openvino(tiny_folder, tmp_path).runner.close()
    (kept,) = folder_for(str(tmp_path), "f32").glob("[!.]*")
    whole = (kept / GRAPH).read_bytes()
    (kept / GRAPH).write_bytes(whole[:1000])
    on_openvino(tiny_folder, tmp_path).runner.close()
    assert (kept / GRAPH).read_bytes() == whole


def test_a_folder_in_openvino_s_own_format_needs_no_conversion(
    tiny_folder: Path, converted_dir: Path, tmp_path: Path
) -> None:
    expected = greedy(on_openvino(tiny_folder, converted_dir).runner, [5, 6, 7])
    (kept,) = folder_for(str(converted_dir), "f32").glob("tiny-*")
    folder = tmp_path / "as-on-a-hub"
    shutil.copytree(kept, folder)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, folder)
    (entry,) = scan(tmp_path).entries
    assert (entry.backend, entry.broken) == ("openvino", "")
    assert entry.size_bytes >= (folder / WEIGHTS).stat().st_size
    backend = on_openvino(folder, tmp_path / "unused")
    assert greedy(backend.runner, [5, 6, 7]) == expected
    assert not (tmp_path / "unused").exists()


def test_weights_in_8_bits_change_the_perplexity_by_less_than_a_hundredth(
    tmp_path: Path,
) -> None:
    text = (GUIDE.parent / "README.md").read_text(encoding="utf-8")
    backend = on_openvino(GUIDE, tmp_path, precision="int8")
    tokens = backend.tokenizer.encode(text, parse_control=False)[:200]
    rows = np.array(backend.runner.run([item(tokens[:64], 0, 64)]))
    with torch.inference_mode():
        expected = plain_model(GUIDE)(torch.tensor([tokens[:64]])).logits[0].numpy()
    ours, theirs = (perplexity(logits, tokens[:64]) for logits in (rows, expected))
    assert abs(ours / theirs - 1) < 0.01


def perplexity(logits: NDArray[np.float32], tokens: list[int]) -> float:
    rows = torch.log_softmax(torch.from_numpy(logits[:-1]).double(), -1)
    return math.exp(-float(rows[range(len(tokens) - 1), tokens[1:]].mean()))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_type": "gpt2"}, "models of its kind"),
        ({"model_type": "mistral", "sliding_window": 128}, "window"),
        ({"layer_types": ["sliding_attention"]}, "window"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rotary"),
        ({"quantization_config": {}}, "quantized already"),
        ({"hidden_act": "gelu"}, "activation"),
        ({"partial_rotary_factor": 0.5}, "rotary"),
    ],
)
def test_what_is_not_converted_is_known_from_its_configuration(
    changed: dict[str, Any], reason: str
) -> None:
    plain = {"model_type": "qwen2", "max_position_embeddings": 256}
    assert refusal_of(plain) == ""
    assert reason in refusal_of(plain | changed)


def test_a_processor_without_avx2_is_a_reason(tiny_folder: Path, tmp_path: Path) -> None:
    spec = LoadSpec(backend="openvino", path=str(tiny_folder), converted_dir=str(tmp_path))
    assert unusable(spec, Processor("old", ("avx", "sse2"))) == "the processor has no AVX2"
    assert unusable(spec, Processor("newer", ("avx", "avx2", "sse2"))) == ""


def scan(models_dir: Path, **changed: Any) -> Any:
    return ChatModelScan(settings(models_dir, **changed))()


def settings(models_dir: Path, **changed: Any) -> ChatSettings:
    plain: dict[str, Any] = {
        "models_dir": models_dir,
        "model_path": models_dir / "none",
        "builtin_models": False,
        "converted_dir": models_dir / "converted",
        "_env_file": None,
    }
    return ChatSettings(**(plain | changed))


def options_of(models_dir: Path) -> list[LoadOption]:
    chosen = settings(models_dir, backend="openvino")
    found = ChatModelScan(chosen)
    (entry,) = found().entries
    return list(ChatLoadOptions(found, chosen)(entry))


def test_a_model_is_loaded_by_openvino_else_by_transformers_with_the_reason(
    tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    first, *others = options_of(tmp_path)
    assert (first.entry.backend, first.reductions) == ("openvino", ())
    assert first.need.converting > 0
    instead = next(option for option in others if option.entry.backend == "transformers")
    assert instead.reductions[0] == "on transformers, not OpenVINO: it could not be loaded there"


def test_a_model_that_is_not_converted_is_loaded_by_transformers_at_once(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    options = options_of(tmp_path)
    assert {option.entry.backend for option in options} == {"transformers"}
    assert "activation function" in options[0].reductions[0]


def test_a_conversion_that_was_refused_is_not_tried_again(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    cache = folder_for(str(tmp_path / "converted"), "auto")
    (cache / "tiny-0").mkdir(parents=True)
    CONVERSIONS.write(cache / "tiny-0", CONVERSIONS.refused(folder, "its form differs"))
    assert "its form differs" in options_of(tmp_path)[0].reductions[0]


def test_a_damaged_graph_is_an_error_with_a_way_forward(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tmp_path)
    (tmp_path / GRAPH).write_text("<net")
    (tmp_path / WEIGHTS).write_bytes(bytes(64))
    with pytest.raises(BackendLoadFailed, match="does not run on OpenVINO") as raised:
        on_openvino(tmp_path, tmp_path)
    assert raised.value.suggestions


@pytest.mark.parametrize("module", ["load", "convert"])
def test_openvino_s_telemetry_is_never_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('telemetry is imported')")
    command = [sys.executable, "-c", f"import chat_worker.backends.openvino.{module}"]
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True, timeout=120)  # noqa: TID251 -- a test passes its own environment on
