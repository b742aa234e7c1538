"""Lack of memory is recognised in all the words that libraries have for it, and only there."""

import errno

import pytest

from worker_runtime.engine_process.interface import ExitReport
from worker_runtime.engine_process.load_errors import died_while_loading
from worker_runtime.memory.oom_signs import Shortage, shortage_in_text, shortage_of

PAGE_FILE = [
    "OSError: [WinError 1455] The paging file is too small for this operation to complete",
    "OSError: [WinError 1455] 分頁檔太小，無法完成這項操作。",
    "OSError: [WinError 1455] 页面文件太小，无法完成操作。",
    "頁面檔案太小，無法完成操作",
    "OSError: [WinError 1455] Die Auslagerungsdatei ist zu klein, um diesen Vorgang durchzuführen.",
    "OSError: [WinError 1455] このコマンドを実行するためのページング ファイルが不足しています。",
    "SafetensorError: Error while memory-mapping: (os error 1455)",
    "LoadLibrary failed with error 1455",
    'Error loading "c10_cuda.dll": error code 1455 or one of its dependencies',
    "HRESULT: 0x800705AF",
    "llama_model_load: error: MapViewOfFile failed: The paging file is too small",
]
GPU_MEMORY = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total",
    "RuntimeError: CUDA error: out of memory",
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4460.45 MiB on device 0: "
    "cudaMalloc failed: out of memory",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "RuntimeError: MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 1 GB)",
    "HIP out of memory. Tried to allocate 20.00 MiB",
    "ggml_vulkan: Device memory allocation of size 1073741824 failed.",
    "vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
]
MEMORY = [
    "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't "
    "allocate memory: you tried to allocate 96636764160 bytes. Error code 12 (Cannot allocate "
    "memory)",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough "
    "memory: you tried to allocate 68157440 bytes.",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "RuntimeError: bad allocation",
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 74.5 GiB for an array",
    "MemoryError: ",
    "[Errno 12] Cannot allocate memory",
    "Error while memory-mapping: Cannot allocate memory (os error 12)",
    "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1073741856",
    "alloc_tensor_range: failed to allocate CPU buffer of size 9663676416",
    "ggml_aligned_malloc: insufficient memory (attempted to allocate 1024.00 MB)",
    "ggml_gallocr_reserve_n_impl: failed to allocate CPU buffer of size 313532416",
    "llama_init_from_model: failed to initialize the context: "
    "failed to allocate buffer for kv cache",
    "llama_init_from_model: failed to initialize: failed to allocate compute pp buffers",
    "llama_model_load: error loading model: unable to allocate CPU buffer",
    "llama_model_load: error loading model: mmap failed: Cannot allocate memory",
    "warning: failed to mlock 1073741824-byte buffer (after previously locking 0 bytes): "
    "Cannot allocate memory",
    "llama_model_load: error: MapViewOfFile failed: Not enough memory resources are available",
    "Exception from src/core: [CPU] could not allocate memory",
    "could not create a primitive: out_of_memory",
    "記憶體不足，無法繼續執行程式",
    "内存不足",
]
HARMLESS = [
    "unknown model architecture: 'x'",
    "key not found: 14556",
    "shape mismatch: 1455 is not 1456",
    "tensor blk.1455.attn_q.weight is missing",
    "invalid magic",
    "tensor 'output.weight' data is not within the file bounds, model is corrupted or incomplete",
    "llama_kv_cache: size = 96.00 MiB (2560 cells, 24 layers, 4/1 seqs)",
    "load_tensors: loading model tensors, this can take a while... (mmap = true)",
    "mmap failed: No such device",
    "ggml_cuda_host_malloc: failed to allocate 96.00 MiB of pinned memory: invalid argument",
    "failed to allocate init_barrier from shared mem, falling back to heap",
    "Failed to allocate aux GPR",
    "Not enough CPU resources!",
    "the home page filename is wrong",
    "SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
    "cannot import name 'allocate' from 'memory'",
]


@pytest.mark.parametrize(
    ("text", "shortage"),
    [
        *((text, "page_file") for text in PAGE_FILE),
        *((text, "gpu_memory") for text in GPU_MEMORY),
        *((text, "memory") for text in MEMORY),
        *((text, None) for text in HARMLESS),
    ],
)
def test_what_libraries_say_tells_what_ran_out(text: str, shortage: Shortage | None) -> None:
    assert shortage_in_text(text) == shortage


class WinError(OSError):
    """As Python raises it there."""

    def __init__(self, winerror: int, text: str) -> None:
        super().__init__(errno.EINVAL, text)
        self.winerror = winerror


@pytest.mark.parametrize(
    ("error", "shortage"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, "?"), "memory"),
        (WinError(1455, "in a language that nobody here reads"), "page_file"),
        (WinError(8, "?"), "memory"),
        (WinError(1450, "?"), "memory"),
        (WinError(2, "The system cannot find the file specified"), None),
        (OSError(errno.ENOEXEC, "Exec format error"), None),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), None),
        (ValueError("bad layer"), None),
    ],
)
def test_exceptions_tell_what_ran_out_in_every_language(
    error: Exception, shortage: Shortage | None
) -> None:
    assert shortage_of(error) == shortage


@pytest.mark.parametrize(
    ("report", "shortage"),
    [
        (ExitReport(-9, "SIGKILL"), "killed"),
        (ExitReport(-9, "SIGKILL", wanted=True), None),
        (ExitReport(137), "killed"),
        (ExitReport(-11, "SIGSEGV", oom_kills=1), None),
        (ExitReport(0xC0000017), "memory"),
        (ExitReport(0xC000012D), "page_file"),
        (ExitReport(0xC000012D - 2**32), "page_file"),
        (ExitReport(-6, "SIGABRT"), None),
        (ExitReport(1), None),
    ],
)
def test_the_end_of_a_process_tells_what_ran_out(
    report: ExitReport, shortage: Shortage | None
) -> None:
    assert report.shortage == shortage
    assert died_while_loading("x", report).metadata.get("reason") == shortage


def test_a_kill_that_the_kernel_counted_is_certain() -> None:
    assert str(ExitReport(-9, "SIGKILL", oom_kills=1)) == "signal 9 SIGKILL, out of memory"
    assert str(ExitReport(-9, "SIGKILL")) == "signal 9 SIGKILL, perhaps out of memory"
    assert str(ExitReport(-11, "SIGSEGV", oom_kills=1)) == "signal 11 SIGSEGV"


def test_last_words_say_more_than_the_exit_code() -> None:
    report = ExitReport(-6, "SIGABRT", stderr_tail=("loading", "std::bad_alloc", "aborted"))
    assert died_while_loading("x", report).metadata["cause"] == "memory"
