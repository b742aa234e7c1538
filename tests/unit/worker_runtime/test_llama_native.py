"""llama.cpp's libraries as they are loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the files of ggml's library that the process has mapped.
LOADED = """
from worker_runtime.ggml_native import Ggml

Ggml()
with open("/proc/self/maps") as maps:
    print(*{line.split()[-1] for line in maps if "/libggml.so" in line}, sep="\\n")
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_one_ggml_is_loaded_since_each_copy_has_backends_of_its_own() -> None:
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1, done.stdout
