"""What a chat model gives up, one thing after the other, so that it fits into memory."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from chat_worker.discovery import ChatModelScan
from chat_worker.family import Family, family_of_folder, family_of_gguf
from chat_worker.load_options import MAX_OPTIONS, ChatLoadOptions
from chat_worker.pipe_messages import LoadSpec, spec_decoder
from chat_worker.settings import ChatSettings
from tests.unit.chat_worker.test_discovery import folder_of_transformers
from worker_runtime.catalog import ModelEntry
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.model_files.gguf import GgufHeader


def rungs_of(model: str, models_dir: Path, **changed: object) -> Sequence[LoadOption]:
    plain = {"models_dir": models_dir, "model_path": models_dir / "none", "_env_file": None}
    settings = ChatSettings(**(plain | changed))  # type: ignore[arg-type]
    scan = ChatModelScan(settings)
    entry = next(entry for entry in scan().entries if entry.id == model)
    return ChatLoadOptions(scan, settings)(entry)


def spec_of(entry: ModelEntry) -> LoadSpec:
    return spec_decoder.decode(entry.load_spec)


def grown(source: Path, target: Path, more_bytes: int) -> None:
    """A copy with zeros behind its tensors: the same model, as a larger file."""
    shutil.copy(source, target)
    with target.open("ab") as file:
        file.write(bytes(more_bytes))


@pytest.fixture
def library(tmp_path: Path, tiny_gguf: Path) -> Path:
    grown(tiny_gguf, tmp_path / "tiny-f16.gguf", 400_000)
    grown(tiny_gguf, tmp_path / "tiny-Q8_0.gguf", 200_000)
    shutil.copy(tiny_gguf, tmp_path / "tiny-Q4_K_M.gguf")
    return tmp_path


def test_the_first_way_is_the_wanted_one_and_each_next_takes_less(tmp_path: Path) -> None:
    options = rungs_of("qwen2-y26hkx-guide", tmp_path)
    assert options[0].reductions == ()
    assert all(after.need.total < before.need.total for before, after in pairwise(options))
    assert all(option.reductions for option in options[1:])


def test_micro_batch_goes_first_then_cache_then_context_then_precision(tmp_path: Path) -> None:
    options = rungs_of("qwen2-y26hkx-guide", tmp_path, context_tokens=2048, parallel=2)
    assert [option.reductions for option in options] == [
        (),
        ("256 tokens computed at a time instead of 512",),
        ("128 tokens computed at a time instead of 512",),
        (
            "KV cache of 2,048 tokens instead of 4,096",
            "128 tokens computed at a time instead of 512",
        ),
        (
            "context of 1,024 tokens instead of 2,048",
            "KV cache of 1,024 tokens instead of 4,096",
            "128 tokens computed at a time instead of 512",
        ),
        (
            "context of 1,024 tokens instead of 2,048",
            "KV cache of 1,024 tokens instead of 4,096",
            "KV cache in q8_0",
            "128 tokens computed at a time instead of 512",
        ),
    ]


def test_a_context_is_never_cut_below_1024_tokens_nor_raised(tmp_path: Path) -> None:
    long = rungs_of("qwen2-y26hkx-guide", tmp_path, context_tokens=1500)
    assert min(spec_of(option.entry).n_ctx for option in long) == 1024
    short = rungs_of("qwen2-y26hkx-guide", tmp_path, context_tokens=300)
    assert {spec_of(option.entry).n_ctx for option in short} == {300}


def test_a_cache_in_8_bits_is_offered_where_heads_are_of_whole_blocks(library: Path) -> None:
    assert {spec_of(option.entry).kv_type for option in rungs_of("tiny-Q4_K_M", library)} == {"f16"}
    guide = rungs_of("qwen2-y26hkx-guide", library)
    assert spec_of(guide[-1].entry).kv_type == "q8_0"


def test_a_smaller_file_of_the_same_model_comes_last(library: Path) -> None:
    options = rungs_of("tiny-f16", library)
    assert list(dict.fromkeys(option.entry.id for option in options)) == [
        "tiny-f16",
        "tiny-Q8_0",
        "tiny-Q4_K_M",
    ]
    instead = next(option for option in options if option.entry.id == "tiny-Q8_0")
    assert instead.reductions == ("served by tiny-Q8_0, a smaller file of the same model",)
    assert {option.entry.id for option in rungs_of("tiny-Q4_K_M", library)} == {"tiny-Q4_K_M"}


def test_a_smaller_file_is_found_beside_the_main_model_wherever_it_is(
    library: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    options = rungs_of("tiny-f16", elsewhere, model_path=library / "tiny-f16.gguf")
    assert options[-1].entry.id == "tiny-Q4_K_M"


def test_the_number_of_ways_is_bounded(library: Path, tiny_gguf: Path) -> None:
    for number in range(20):
        grown(tiny_gguf, library / f"tiny-Q{number % 10}_{number}.gguf", number)
    options = rungs_of("tiny-f16", library, context_tokens=2048, parallel=128)
    assert len(options) == MAX_OPTIONS
    assert options[0].reductions == ()


def test_named_models_serve_in_the_main_models_place_only(library: Path) -> None:
    named = {
        "fallback_models": "qwen2-y26hkx-guide, tiny-Q4_K_M.gguf, nothing",
        "model_path": library / "tiny-Q8_0.gguf",
    }
    served = {option.entry.id for option in rungs_of("tiny-Q8_0", library, **named)}
    assert served == {"tiny-Q8_0", "qwen2-y26hkx-guide", "tiny-Q4_K_M"}
    served = {option.entry.id for option in rungs_of("tiny-f16", library, **named)}
    assert "qwen2-y26hkx-guide" not in served


def test_a_transformers_model_may_be_served_by_its_gguf(library: Path) -> None:
    folder = folder_of_transformers(library / "tiny")
    options = rungs_of("tiny", library, model_path=folder)
    assert [options[0].entry.backend, options[-1].entry.backend] == ["transformers", "llama.cpp"]
    assert {"tiny-f16", "tiny-Q4_K_M"} <= {option.entry.id for option in options}


def test_switched_off_there_is_one_way(library: Path) -> None:
    (option,) = rungs_of("tiny-f16", library, load_ladder=False)
    assert option.reductions == ()


def test_a_shortened_context_is_named_to_those_whose_input_is_too_long(tmp_path: Path) -> None:
    options = rungs_of("qwen2-y26hkx-guide", tmp_path, context_tokens=2048)
    whole, short = spec_of(options[0].entry), spec_of(options[-1].entry)
    assert whole.wanted_n_ctx == 0
    assert (short.n_ctx, short.wanted_n_ctx) == (1024, 2048)


def header(architecture: str = "qwen2", **names: str) -> GgufHeader:
    metadata = {f"general.{key}": value for key, value in names.items()}
    return GgufHeader(3, {"general.architecture": architecture, **metadata}, {}, [], "")


def gguf(name: str, architecture: str = "qwen2", **names: str) -> Family:
    return family_of_gguf(name, header(architecture, **names))


QWEN = {"basename": "Qwen2.5", "size_label": "0.5B", "finetune": "Instruct"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (gguf("Qwen2.5-0.5B-Instruct-Q8_0"), gguf("qwen2.5-0.5b-instruct-q4_k_m"), True),
        (gguf("m.f16"), gguf("m-IQ2_XXS"), True),
        (gguf("m-bf16"), gguf("m-UD-Q4_K_XL"), True),
        (gguf("m-MXFP4_MOE"), gguf("m.Q5_0"), True),
        (gguf("m-0.5B-Q8_0"), gguf("m-1.5B-Q4_0"), False),
        (gguf("m-Q8_0"), gguf("m-Q4_0", "llama"), False),
        (gguf("big", **QWEN), gguf("small", **QWEN), True),
        (gguf("m-Q8_0", **QWEN), gguf("m-Q4_0", **(QWEN | {"size_label": "1.5B"})), False),
        (gguf("m-Q8_0", **QWEN), gguf("m-Q4_0", **(QWEN | {"finetune": "Coder"})), False),
        (gguf("m-Q8_0", **QWEN), gguf("m-Q4_0"), True),
        (family_of_folder("Qwen2.5-0.5B-Instruct"), gguf("qwen2.5-0.5b-instruct-q4_0"), True),
        (family_of_folder("m-7B"), gguf("m-7B-chat-Q4_0"), False),
        (Family(), Family(), False),
    ],
)
def test_files_of_one_model_are_known_by_what_they_say_or_by_their_names(
    one: Family, other: Family, *, same: bool
) -> None:
    assert (one in other) is same
    assert (other in one) is same


LOAD_WITHIN = """
import resource, sys
from pathlib import Path
from chat_worker.backends.llama_cpp.load import load
from chat_worker.pipe_messages import LoadSpec
from common.errors import BackendLoadFailed
from worker_runtime.llama_native import load_native

load_native()
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + (300 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
spec = LoadSpec(backend="llama.cpp", path=sys.argv[1], n_cells=int(sys.argv[2]), n_parallel=1)
try:
    load(spec, lambda fraction: None)
    print("loaded")
except BackendLoadFailed as error:
    print(error.metadata.get("cause", error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as only Linux does")
@pytest.mark.parametrize(
    ("cells", "outcome"),
    [(1024, "loaded"), (300_000, "memory"), (4_000_000, "memory")],
    ids=["fits", "compute buffers do not", "the cache does not"],
)
def test_what_llama_cpp_cannot_allocate_is_a_lack_of_memory(
    tiny_gguf: Path, cells: int, outcome: str
) -> None:
    command = [sys.executable, "-c", LOAD_WITHIN, str(tiny_gguf), str(cells)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == [outcome]
