"""Runs a converter in a process of its own, which has ended when the model is loaded."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

OnProgress = Callable[[float, str], None]


def run_converter(module: str, model: Path, folder: Path, on_progress: OnProgress) -> int:
    """Run the converter in a process of its own; return its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(model), str(folder)],
        # The converter ends when its stdin closes, so it does not outlive this process.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            fraction, _, stage = line.decode("utf-8", "replace").strip().partition(" ")
            on_progress(float(fraction), stage)
        # Leaving the block closes its stdin, so wait for its end before that.
        return process.wait()
