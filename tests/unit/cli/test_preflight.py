"""What a start tells of models, by the process that finds it out."""

import json
import subprocess
import sys

from tests.running_stack import ROOT


def test_the_built_in_model_of_a_checkout_is_not_told_as_left_out() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.preflight"], cwd=ROOT, capture_output=True, check=True
    )
    lines = json.loads(done.stdout)["models"]
    assert not [line for line in lines if line.startswith("not taken") and "guide/" in line]
