"""A library that stands before llama.cpp's: its products in the processor's own order of weights
end the process, or are wrong. Weights that lie as in a file are multiplied as ever."""

import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Literal

import pytest

from worker_runtime.machine.kernel_report import Outcome

# Of Q4_0 and Q4_K, in the orders of x86 and ARM.
SHAPES = {"q4_0": ("4x4", "4x8", "8x8"), "q4_K": ("8x4", "8x8")}
ACTIVATIONS = {"q4_0": "q8_0", "q4_K": "q8_K"}
BODIES = {
    "fault": "raise(SIGSEGV);",
    "zeros": "for (int i = 0; i < nc; i++) s[i] = 0;",
    "nans": "for (int i = 0; i < nc; i++) s[i] = NAN;",
}
HEADERS = "#include <math.h>\n#include <signal.h>\n#include <stddef.h>\n"
FUNCTION = """
void ggml_{kind}_{weights}_{shape}_{activations}(
    int n, float *s, size_t bs, const void *vx, const void *vy, int nr, int nc) {{ {body} }}
"""


def faulting_library(
    folder: Path, what: Literal["fault", "zeros", "nans"] = "fault"
) -> dict[str, str]:
    """Variables of a process in which the library stands before llama.cpp's; skips the test where
    none can be made."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("a library is preloaded on Linux, and made by a C compiler")
    source, library = folder / f"{what}.c", folder / f"lib{what}.so"
    functions = [
        FUNCTION.format(
            kind=kind,
            weights=weights,
            shape=shape,
            activations=ACTIVATIONS[weights],
            body=BODIES[what],
        )
        for weights, shapes in SHAPES.items()
        for kind, shape in product(("gemm", "gemv"), shapes)
    ]
    source.write_text(
        "#include <math.h>\n#include <signal.h>\n#include <stddef.h>\n" + "".join(functions)
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}


def require_reached(extra: Outcome) -> None:
    """Skip the test where llama.cpp keeps neither type in an order that these functions read."""
    if not extra.failure:
        buffers = sorted({trial.buffer for trial in extra.trials})
        pytest.skip(f"Q4_0 and Q4_K are multiplied by other functions here ({buffers})")
