"""Which folders the transformers backend computes, and how it refuses the others."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from chat_worker.backend import Backend
from chat_worker.backends.transformers import onednn, precision
from chat_worker.backends.transformers.compiled import compile_model
from chat_worker.backends.transformers.load import load
from chat_worker.backends.transformers.precision import device
from chat_worker.engine.runner import ScheduledTokens
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec
from common.errors import BackendLoadFailed

SMALL = {
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW: dict[str, object] = {"sliding_window": 8}
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "mistral": WINDOW,
    "qwen3": {},
    "gemma2": WINDOW | {"query_pre_attn_scalar": 8},
    "gemma3_text": WINDOW | {"query_pre_attn_scalar": 8},
    "phi3": {},
    "gpt2": {},
    "mixtral": {"num_local_experts": 4},
}
TOKENS = [1 + 7 * i % 1000 for i in range(40)]


def load_folder(folder: Path, **changed: object) -> Backend:
    plain = {"backend": "transformers", "path": str(folder), "torch_dtype": "float32"}
    return load(LoadSpec(**(plain | changed)), lambda fraction, stage: None)  # type: ignore[arg-type]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def made(folder: Path, family: str, changed: dict[str, object]) -> Any:
    """A random model of a family, saved over the one in `folder`; its weights are large enough
    for attention to matter."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **(SMALL | changed))
    # Some versions choose an attention for Gemma 2 that does not bound its scores.
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    return model


def edit(folder: Path, **changed: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changed))


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_models_give_their_own_logits(folder: Path, family: str) -> None:
    model = made(folder, family, FAMILIES[family])
    runner = load_folder(folder).runner
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=TOKENS, limit=99, sampler=sampler)
    with torch.inference_mode():
        ids = torch.tensor([TOKENS], device=device())
        expected = model.to(device())(input_ids=ids).logits[0].cpu().numpy()
    for start, n_tokens in ((0, 5), (5, 20), (25, 1), (26, 14)):
        rows = runner.run([ScheduledTokens(sequence, 0, start, n_tokens, n_tokens)])
        assert np.abs(np.stack(rows) - expected[start : start + n_tokens]).max() < 1e-3


def test_a_model_that_keeps_another_state_is_refused_for_its_gguf(folder: Path) -> None:
    made(folder, "mamba", {"num_hidden_layers": 2})
    with pytest.raises(BackendLoadFailed) as caught:
        load_folder(folder)
    assert "mamba" in caught.value.message
    assert any("GGUF" in way for way in caught.value.suggestions)


def test_code_that_comes_with_a_model_is_never_run(folder: Path) -> None:
    (folder / "trap.py").write_text("raise SystemExit('code of a model has run')")
    edit(folder, model_type="trap", auto_map={"AutoModelForCausalLM": "trap.Trap"})
    with pytest.raises(BackendLoadFailed, match="auto_map"):
        load_folder(folder)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(BackendLoadFailed):
        load_folder(folder)


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendLoadFailed, match="incomplete"):
        load_folder(folder)


@pytest.mark.parametrize(
    "changed",
    [{"model_type": "nobody-knows"}, {"hidden_size": 32}, {"num_attention_heads": "many"}],
    ids=str,
)
def test_a_config_that_is_wrong_is_a_refusal(folder: Path, changed: dict[str, object]) -> None:
    edit(folder, **changed)
    with pytest.raises(BackendLoadFailed):
        load_folder(folder)


def test_quantization_without_its_library_says_how_to_install_it(folder: Path) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(BackendLoadFailed) as caught:
        load_folder(folder, quantization="4bit")
    assert "run.py setup quantized" in caught.value.suggestions[0]


def test_auto_is_the_checkpoints_format_only_where_the_cpu_is_good_at_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = LoadSpec(backend="transformers", path="")
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(onednn, "multiplies_bfloat16", lambda able=able: able)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert precision.dtype(spec, torch.bfloat16) == expected
        assert precision.dtype(spec, torch.float16) == expected
        assert precision.dtype(spec, torch.float32) == torch.float32
        assert precision.dtype(spec, None) == torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, when its compiler is imported
def test_a_model_that_cannot_be_compiled_says_how_to_go_without() -> None:
    def refuse() -> None:
        raise BackendLoadFailed("no C++ compiler")

    with pytest.raises(BackendLoadFailed) as caught:
        compile_model(torch.nn.Linear(1, 1), refuse)
    assert caught.value.suggestions == ("set COMPILE_MODEL=0",)


def test_a_context_ends_where_the_rotation_would_change(folder: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    edit(folder, rope_parameters=rope, max_position_embeddings=128)
    assert load_folder(folder).facts.n_ctx == 128


def test_end_tokens_are_those_of_all_files(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    edit(folder, eos_token_id=9)
    assert load_folder(folder).tokenizer.end_tokens >= {5, 7, 9}
