"""Lack of memory is recognised in all the words that libraries have for it."""

import pytest

from worker_runtime.launcher import ExitReport
from worker_runtime.load_failures import died_while_loading, raised_while_loading, smells_of_memory


@pytest.mark.parametrize(
    "text",
    [
        "OSError: [WinError 1455] The paging file is too small for this operation to complete",
        "分頁檔太小，無法完成這項操作",
        "页面文件太小，无法完成操作",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 9",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "[Errno 12] Cannot allocate memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_memory_is_smelled(text: str) -> None:
    assert smells_of_memory(text)


@pytest.mark.parametrize(
    "text", ["unknown model architecture: 'x'", "key not found: 14556", "invalid magic"]
)
def test_other_failures_are_not_memory(text: str) -> None:
    assert not smells_of_memory(text)


def test_suggestions_fit_the_backend() -> None:
    transformers = raised_while_loading("transformers", MemoryError())
    llama = raised_while_loading("llama.cpp", MemoryError())
    assert any("MODEL_QUANTIZATION=4bit" in way for way in transformers.suggestions)
    assert any("COMPILE_MODEL=0" in way for way in transformers.suggestions)
    assert not any("4bit" in way for way in llama.suggestions)
    assert transformers.metadata == {"backend": "transformers", "cause": "memory"}


def test_a_kill_that_nobody_here_sent_is_taken_for_the_kernels() -> None:
    assert "not enough memory" in str(died_while_loading("x", ExitReport(-9, "SIGKILL")))
    assert "SIGSEGV" in str(died_while_loading("x", ExitReport(-11, "SIGSEGV")))


def test_the_text_of_an_exception_is_not_shown() -> None:
    error = raised_while_loading("x", ValueError("/home/someone/secret.gguf"))
    assert "secret" not in str(error)
    assert "ValueError" in str(error)
