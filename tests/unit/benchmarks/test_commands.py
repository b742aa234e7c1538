"""`run.py bench NAME` finds each benchmark and hands its arguments on."""

import importlib

import pytest

from benchmarks.__main__ import BENCHMARKS, MODULES


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_takes_arguments_and_explains_them(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = importlib.import_module(f"benchmarks.{MODULES.get(name, name)}")
    with pytest.raises(SystemExit) as end:
        benchmark.main(["--help"])
    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out
