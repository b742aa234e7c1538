"""What a chat model needs: against figures computed by hand, and against real processes."""

import contextlib
from pathlib import Path

import msgspec
import pytest

from chat_worker import messages as m
from chat_worker.need import MIB, need
from chat_worker.settings import ChatSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.child import ProcessLauncher
from worker_runtime.memory.probe import SystemMemoryProbe
from worker_runtime.wire import raw

GUIDE = Path(__file__).resolve().parents[3] / "models" / "guide"
GGUF, FOLDER = GUIDE / "qwen2-y26hkx-guide.gguf", GUIDE / "qwen2-y26hkx-guide"
BAR_SHARE, BAR_BYTES = 0.10, 64 * MIB
N_CTX = 512


def spec(path: Path, **changed: object) -> m.LoadSpec:
    backend = "transformers" if path.is_dir() else "llama.cpp"
    plain = m.LoadSpec(backend=backend, path=str(path), n_ctx=N_CTX)
    return msgspec.structs.replace(plain, **changed)


def test_the_cache_is_cells_times_layers_times_heads_times_both_lengths() -> None:
    config = msgspec.json.decode((FOLDER / "config.json").read_bytes())
    head = config["hidden_size"] // config["num_attention_heads"]
    values = config["num_hidden_layers"] * config["num_key_value_heads"] * 2 * head
    assert need(spec(GGUF)).kv == N_CTX * 4 * values * 2
    assert need(spec(GGUF, n_parallel=1)).kv == N_CTX * values * 2
    assert need(spec(GGUF, n_cells=1024)).kv == 1024 * values * 2
    assert need(spec(FOLDER, torch_dtype="float32")).kv == N_CTX * 4 * values * 4


def test_the_total_leaves_out_what_is_mapped_only_while_it_loads() -> None:
    of_folder = need(spec(FOLDER))
    assert of_folder.loading > 0
    later = of_folder.kv + of_folder.compute
    assert of_folder.peak == max(of_folder.total, of_folder.total - later + of_folder.loading)
    assert need(spec(GGUF)).loading == 0


@pytest.mark.parametrize("path", [GGUF, FOLDER], ids=["llama.cpp", "transformers"])
async def test_the_peak_of_a_real_process_is_near_what_was_computed(path: Path) -> None:
    probe = SystemMemoryProbe()
    wanted = spec(path)
    entry = ModelEntry(
        id="guide",
        capability="chat",
        backend=wanted.backend,
        path=path,
        size_bytes=0,
        created_s=0,
        context_length=N_CTX,
        fingerprint="fp_0000000000000000",
        load_spec=raw(wanted),
        engine_module="chat_worker.engine_process",
    )
    launcher = ProcessLauncher(probe, ChatSettings(_env_file=None).engine_environment)
    engine = await launcher.start(entry)
    try:
        await engine.load(entry.load_spec, lambda fraction, stage: None)
        prompt = m.PromptTokens([10 + i % 500 for i in range(N_CTX - 8)])
        ask = m.Generate(input=prompt, max_tokens=4, ignore_eos=True)
        async with contextlib.aclosing(engine.call(ask)) as events:
            async for _ in events:
                pass
        peak = probe.process(engine.pid).peak_bytes
    finally:
        await engine.stop(5)
    if not peak:
        pytest.skip("this system does not tell a process's peak")
    assert abs(need(wanted).peak - peak) <= max(peak * BAR_SHARE, BAR_BYTES)
