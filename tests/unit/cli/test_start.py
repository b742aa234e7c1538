"""What the command imports before it knows what it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Each takes longer to import than all that `--help` needs.
SLOW = {"httpx", "huggingface_hub", "pydantic", "rich", "grpc", "numpy", "typer", "prompt_toolkit"}
CODE = """
import sys
from cli.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
sys.stderr.write(" ".join(sys.modules))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["pull", "--help"], ["nonsense"]])
def test_nothing_slow_is_imported_to_explain_the_commands(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert SLOW & set(done.stderr.split()) == set()


def test_words_behind_an_option_belong_to_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    from cli.__main__ import main

    with pytest.raises(SystemExit):
        main(["ls", "--json", "word"])
    assert "unrecognized arguments: word" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="these shells are POSIX'")
def test_a_shell_takes_what_completes_its_commands() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "cli", "completion", "bash"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    asked = (
        f"{script}\nCOMP_WORDS=(y26hkx pul); COMP_CWORD=1; "
        "_shtab_y26hkx; echo COMPLETED ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["COMPLETED", "pull"]
