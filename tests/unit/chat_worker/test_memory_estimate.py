"""What a chat model needs: against figures computed by hand, and against real processes."""

import contextlib
import platform
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from chat_worker import pipe_messages as m
from chat_worker.memory_estimate import memory_need
from chat_worker.model_dims import model_dims
from chat_worker.settings import ChatSettings
from common.sizes import MIB
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process.interface import EngineProcess
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.engine_process.protocol import raw
from worker_runtime.llama_native import load_native
from worker_runtime.memory.probe import SystemMemoryProbe

GUIDE = Path(__file__).resolve().parents[3] / "models" / "guide"
GGUF, FOLDER = GUIDE / "qwen2-y26hkx-guide.gguf", GUIDE / "qwen2-y26hkx-guide"
BAR_SHARE, BAR_BYTES = 0.10, 64 * MIB
N_CTX = 512
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LIBC, LIBC_VERSION = platform.libc_ver()
HAS_HUGE_PAGES = (
    LIBC == "glibc"
    and tuple(int(part) for part in LIBC_VERSION.split(".")) >= (2, 35)
    and HUGE_PAGES.is_file()
    and "[madvise]" in HUGE_PAGES.read_text()
)


def spec(path: Path, **changed: object) -> m.LoadSpec:
    backend = "transformers" if path.is_dir() else "llama.cpp"
    plain = m.LoadSpec(backend=backend, path=str(path), n_ctx=N_CTX)
    return msgspec.structs.replace(plain, **changed)


def test_the_cache_is_cells_times_layers_times_heads_times_both_lengths() -> None:
    config = msgspec.json.decode((FOLDER / "config.json").read_bytes())
    head = config["hidden_size"] // config["num_attention_heads"]
    values = config["num_hidden_layers"] * config["num_key_value_heads"] * 2 * head
    assert memory_need(spec(GGUF)).kv == N_CTX * 4 * values * 2
    assert memory_need(spec(GGUF, n_parallel=1)).kv == N_CTX * values * 2
    assert memory_need(spec(GGUF, n_cells=1024)).kv == 1024 * values * 2
    assert memory_need(spec(FOLDER, torch_dtype="float32")).kv == N_CTX * 4 * values * 4


def test_without_flash_attention_the_scores_of_a_micro_batch_take_memory() -> None:
    n_heads = msgspec.json.decode((FOLDER / "config.json").read_bytes())["num_attention_heads"]

    def scores(**changed: object) -> int:
        flash, without = (
            memory_need(spec(GGUF, flash_attention=on, **changed)).compute for on in (True, False)
        )
        return without - flash

    n_ubatch = m.LoadSpec(backend="", path="").n_ubatch
    assert scores() == 4 * n_ubatch * n_heads * N_CTX
    assert scores(n_parallel=2) == 4 * n_ubatch * n_heads * 2 * N_CTX
    assert scores(kv_type="q8_0") == 0


def test_the_total_leaves_out_what_is_mapped_only_while_it_loads() -> None:
    of_folder = memory_need(spec(FOLDER))
    assert of_folder.loading > 0
    later = of_folder.kv + of_folder.compute
    assert of_folder.peak == max(of_folder.total, of_folder.total - later + of_folder.loading)
    assert memory_need(spec(GGUF)).loading == 0


def test_an_embedding_that_is_the_output_layer_too_is_kept_in_both_orders(tmp_path: Path) -> None:
    native, in_q4 = load_native(), tmp_path / "q4_0.gguf"
    params = native.llama_model_quantize_default_params()
    params.ftype, params.pure = native.LLAMA_FTYPE_MOSTLY_Q4_0, True
    assert not native.llama_model_quantize(str(GGUF).encode(), str(in_q4).encode(), params)
    shape = model_dims(in_q4)
    # Blocks of 32 weights take 18 bytes.
    assert memory_need(spec(in_q4)).weights - shape.n_bytes == shape.table_values * 18 // 32
    assert memory_need(spec(GGUF)).weights == model_dims(GGUF).n_bytes


@contextlib.asynccontextmanager
async def busy(wanted: m.LoadSpec) -> AsyncIterator[int]:
    """The process of an engine that loaded `wanted` and has answered a full prompt."""
    async with loaded(wanted) as engine:
        await answer(engine, 0)
        yield engine.pid


async def answer(engine: EngineProcess, number: int) -> None:
    """Let it answer one of many full prompts."""
    prompt = m.PromptTokens([10 + (number * 7919 + i) % 500 for i in range(N_CTX - 8)])
    ask = m.Generate(input=prompt, max_tokens=4, ignore_eos=True)
    async with contextlib.aclosing(engine.call(ask)) as events:
        async for _ in events:
            pass


@contextlib.asynccontextmanager
async def loaded(wanted: m.LoadSpec) -> AsyncIterator[EngineProcess]:
    entry = ModelEntry(
        id="guide",
        capability="chat",
        backend=wanted.backend,
        path=Path(wanted.path),
        size_bytes=0,
        created_s=0,
        context_length=N_CTX,
        fingerprint="fp_0000000000000000",
        load_spec=raw(wanted),
        engine_module="chat_worker.engine_process",
    )
    environment = ChatSettings(_env_file=None).engine_environment
    engine = await ProcessLauncher(SystemMemoryProbe(), environment).start(entry)
    try:
        await engine.load(entry.load_spec, lambda fraction, stage: None)
        yield engine
    finally:
        await engine.stop(5)


@pytest.mark.parametrize("path", [GGUF, FOLDER], ids=["llama.cpp", "transformers"])
async def test_the_peak_of_a_real_process_is_near_what_was_computed(path: Path) -> None:
    wanted = spec(path)
    async with busy(wanted) as pid:
        peak = SystemMemoryProbe().process(pid).peak_bytes
    if not peak:
        pytest.skip("this system does not tell a process's peak")
    assert abs(memory_need(wanted).peak - peak) <= max(peak * BAR_SHARE, BAR_BYTES)


async def test_what_openvino_holds_is_near_what_was_computed(converted_dir: Path) -> None:
    """The text is so short that the cache for others stays empty, and few kernels are made."""
    wanted = spec(FOLDER, backend="openvino", converted_dir=str(converted_dir))
    assert memory_need(wanted).converting > 0
    async with busy(wanted) as pid:
        held = SystemMemoryProbe().process(pid).resident_bytes
    need = memory_need(wanted)
    assert need.converting == 0
    assert abs(need.loaded - held) <= max(held * BAR_SHARE, BAR_BYTES)


async def test_past_conversations_take_what_is_booked_for_them() -> None:
    probe, limit = SystemMemoryProbe(), 64 * MIB
    async with loaded(spec(GGUF)) as engine:
        # All slots are full, but nothing may be kept beyond them.
        for number in range(8):
            await answer(engine, number)
        before = probe.process(engine.pid).resident_bytes
        engine.limit_caches(limit)
        for number in range(8, 88):
            await answer(engine, number)
        taken = probe.process(engine.pid).resident_bytes - before
    # The last one that no longer fits is missing, and some tokens are kept as numbers.
    assert abs(taken - limit) <= limit * BAR_SHARE


async def test_weights_of_a_gguf_file_are_in_memory_once() -> None:
    if load_native().llama_supports_gpu_offload():
        pytest.skip("a GPU takes the weights out of the mapped file")
    async with busy(spec(GGUF)) as pid:
        maps = psutil.Process(pid).memory_maps()
    assert GGUF.name not in {Path(mapped.path).name for mapped in maps}


def share_advised(pid: int) -> float:
    """Of a process's anonymous memory, what huge pages were asked for; the system may be out of
    them."""
    advised = everything = kib = 0
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        name, *values = line.split()
        if name == "Anonymous:":
            kib = int(values[0])
            everything += kib
        elif name == "VmFlags:" and "hg" in values:
            advised += kib
    return advised / everything


@pytest.mark.skipif(not HAS_HUGE_PAGES, reason="this system gives no huge pages for the asking")
async def test_an_engine_asks_for_huge_pages() -> None:
    async with busy(spec(GGUF)) as pid:
        share = share_advised(pid)
    # The rest is Python's own, in pieces too small for them.
    assert share > 1 / 3
