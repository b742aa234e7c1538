"""What models are thought to take in memory beside what their processes really took.

Models of many shapes are made, loaded in an engine process, and fill their contexts with prompts
and a few tokens of answer. Counted is the most that was resident, pages of files too.

    python3 run.py bench estimate                  # all, some minutes
    python3 run.py bench estimate --only qwen      # those whose names contain it
"""

import argparse
import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from msgspec.structs import asdict

from benchmarks.make_shapes import Model, write_file, write_folder
from benchmarks.report import bar, say, table
from chat_worker import pipe_messages as m
from chat_worker.memory_estimate import memory_need
from chat_worker.settings import ChatSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.client import EngineClient
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory, SystemMemoryProbe

MODELS = Path(__file__).parent / "models" / "estimate"
MIB = 1 << 20
SHARE, MOST_BYTES = 0.1, 64 * MIB
ANSWER_TOKENS = 8

QWEN = Model("qwen2", 24, 896, 14, 2, 4864, 151_936, tied=True)
QWEN_UNTIED = Model("qwen2", 8, 1024, 16, 4, 2816, 151_936)
LLAMA_MHA = Model("llama", 16, 1024, 16, 16, 2816, 32_000)
LLAMA_GQA = Model("llama", 20, 1536, 24, 4, 4096, 32_000)
SMALL = Model("llama", 12, 768, 12, 12, 2048, 32_000, tied=True)
SMALL_32K = replace(SMALL, n_layers=4, n_kv_heads=4, n_ctx=32_768)
QWEN3 = Model("qwen3", 16, 768, 12, 4, 2304, 151_936, tied=True, head=128)
GEMMA2 = Model("gemma2", 14, 1024, 8, 4, 4096, 64_000, tied=True, head=128, window=512)
GEMMA3 = Model("gemma3_text", 12, 640, 4, 1, 2048, 152_000, tied=True, head=256, window=512)
LARGE = Model("llama", 22, 2048, 16, 4, 5632, 32_000)
MISTRAL = Model("mistral", 12, 1024, 16, 4, 3584, 32_000, window=1024)


@dataclass(frozen=True)
class Case:
    """
    Args:
        form: a quantization of GGUF files, or the number format of a transformers folder.
        changed: of the spec. On OpenVINO, the model is converted first, by another process.
    """

    name: str
    model: Model
    form: str
    changed: dict[str, object] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        return self.form.isupper()


WITHOUT_TILES: dict[str, object] = {"n_ctx": 8192, "n_ubatch": 256, "flash_attention": False}
CASES = (
    Case("qwen tied", QWEN, "Q4_K_M"),
    Case("qwen untied", QWEN_UNTIED, "Q8_0"),
    Case("llama mha", LLAMA_MHA, "F16"),
    Case("llama gqa", LLAMA_GQA, "Q4_0"),
    Case("small tied, long", SMALL, "Q4_K_M", {"n_ctx": 8192, "n_parallel": 1}),
    Case("small tied, 32k", SMALL_32K, "Q4_K_M", {"n_ctx": 32_768, "n_parallel": 1}),
    Case("small tied, one slot", SMALL, "Q8_0", {"n_parallel": 1}),
    # On a slow machine steps have 256 tokens, and buffers for more are never touched.
    Case("qwen, no flash attention", QWEN, "Q4_K_M", WITHOUT_TILES),
    Case("qwen3", QWEN3, "Q6_K", {"kv_type": "q8_0"}),
    Case("gemma2", GEMMA2, "Q4_K_M"),
    Case("gemma3", GEMMA3, "Q8_0", {"n_ubatch": 128}),
    Case("large gqa", LARGE, "Q8_0"),
    Case("qwen tied, openvino", QWEN, "Q4_K_M", {"backend": "openvino"}),
    Case("qwen untied, openvino", QWEN_UNTIED, "Q8_0", {"backend": "openvino"}),
    Case("llama mha, openvino", LLAMA_MHA, "F16", {"backend": "openvino", "precision": "int8"}),
    Case("llama gqa, openvino", LLAMA_GQA, "Q4_0", {"backend": "openvino", "weight_bits": 4}),
    Case("qwen3, openvino", QWEN3, "Q6_K", {"backend": "openvino", "kv_type": "q8_0"}),
    Case("qwen tied", QWEN, "bfloat16"),
    Case("qwen tied, f32", QWEN, "bfloat16", {"torch_dtype": "float32"}),
    Case("qwen untied", QWEN_UNTIED, "bfloat16"),
    Case("qwen untied, f32", QWEN_UNTIED, "bfloat16", {"torch_dtype": "float32"}),
    Case("llama mha", LLAMA_MHA, "float16"),
    Case("small tied", SMALL, "float32"),
    Case("qwen3", QWEN3, "bfloat16"),
    Case("gemma2", GEMMA2, "bfloat16"),
    Case("gemma3", GEMMA3, "bfloat16"),
    Case("mistral", MISTRAL, "bfloat16"),
    Case("large gqa", LARGE, "bfloat16"),
)


class Found(msgspec.Struct, frozen=True):
    """
    Args:
        loading: the most until it was loaded.
        used: after work; its peak is the most of all.
    """

    need: Need
    loading: ProcessMemory
    used: ProcessMemory

    @property
    def error_bytes(self) -> int:
        return self.need.peak - self.used.peak_bytes

    @property
    def error(self) -> float:
        return self.error_bytes / self.used.peak_bytes

    @property
    def kept(self) -> bool:
        return abs(self.error_bytes) <= max(MOST_BYTES, SHARE * self.used.peak_bytes)


def found(case: Case, folder: Path) -> Found:
    """`case` made in `folder`, unless it is there, estimated and measured."""
    backend = "llama.cpp" if case.is_file else "transformers"
    path = folder / f"{case.model.name}-{case.form}{'.gguf' if case.is_file else ''}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write = write_file if case.is_file else write_folder
        write(path, case.model, case.form)
    plain: dict[str, object] = {"backend": backend, "n_ctx": 1024, "n_parallel": 4}
    plain["converted_dir"] = str(folder / "converted")
    spec = m.LoadSpec(path=str(path), **plain | case.changed)  # type: ignore[arg-type]
    return asyncio.run(_measured(spec))


async def _measured(spec: m.LoadSpec) -> Found:
    probe = SystemMemoryProbe()
    environment = ChatSettings(_env_file=None).engine_environment
    engine = await ProcessLauncher(probe, environment).start(_entry(spec))
    try:
        facts = m.facts_decoder.decode(await engine.load(protocol.raw(spec), lambda *_: None))
        loading = probe.process(engine.pid)
        # What llama.cpp has for its cache it has from the start; torch needs it all filled.
        is_llama = spec.backend == "llama.cpp"
        n_prompts = 1 if is_llama else min(facts.n_parallel, facts.n_cells // facts.n_ctx)
        async with asyncio.TaskGroup() as calls:
            for number in range(n_prompts):
                calls.create_task(_fill(engine, facts, number))
        return Found(memory_need(spec), loading, probe.process(engine.pid))
    finally:
        await engine.stop(5)


async def _fill(engine: EngineClient, facts: m.Facts, number: int) -> None:
    n_prompt = facts.n_ctx - ANSWER_TOKENS
    ids = [(7 * i + number) % 500 + 10 for i in range(n_prompt)]
    sampling = m.Sampling(temperature=0)
    ask = m.Generate(
        input=m.PromptTokens(ids), sampling=sampling, max_tokens=ANSWER_TOKENS, ignore_eos=True
    )
    async with contextlib.aclosing(engine.call(ask)) as events:
        async for _ in events:
            pass


def _entry(spec: m.LoadSpec) -> ModelEntry:
    return ModelEntry(
        id="estimated",
        capability="chat",
        backend=spec.backend,
        path=Path(spec.path),
        size_bytes=0,
        created_s=0,
        context_length=0,
        fingerprint="",
        load_spec=protocol.raw(spec),
        engine_module="chat_worker.engine_process",
    )


def rows(case: Case, got: Found) -> Iterator[str]:
    yield f"{case.name} {case.form}"
    yield from (str(n // MIB) for n in asdict(got.need).values())
    used = got.used
    yield from (
        str(n // MIB)
        for n in (
            got.loading.anonymous_bytes,
            got.loading.mapped_bytes,
            got.loading.peak_bytes,
            used.anonymous_bytes,
            used.mapped_bytes,
            got.need.peak,
            used.peak_bytes,
        )
    )
    yield f"{got.error_bytes / MIB:+.0f}"
    yield f"{got.error:+.1%}"


HEAD = (
    *("model", *Need.__struct_fields__, "loaded anon", "loaded map", "load peak"),
    *("used anon", "used map", "estimate", "measured", "off by MiB", "off by"),
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench estimate", description=__doc__)
    parser.add_argument("--only", default="", help="part of the names to measure")
    parser.add_argument("--keep", action="store_true", help="keep the models that are made")
    chosen = parser.parse_args(argv)
    cases = [case for case in CASES if chosen.only in f"{case.name} {case.form}"]
    if not cases:
        parser.error(f"no model's name contains {chosen.only!r}")
    results = []
    for case in cases:
        results.append((case, found(case, MODELS)))
        say(" | ".join(rows(*results[-1])))
    if not chosen.keep:
        shutil.rmtree(MODELS)
    table(HEAD, [list(rows(case, got)) for case, got in results])
    share = sum(got.kept for _, got in results) / len(results)
    return 0 if bar("within 10 % or 64 MiB", share, 1, at_most=False) else 1
