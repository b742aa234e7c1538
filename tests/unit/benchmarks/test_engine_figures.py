"""Figures of `run.py bench engines`: kept over several runs, and drawn."""

import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.engine_figures import Figures, Report, read_report, write_report
from benchmarks.plot_engines import svg

ORDER = ("first", "second <engine>")


def report(name: str, model: str = "model") -> Report:
    figures = Figures(1.0, 2.0, {60: 700.0, 3000: 500.0}, {1: 60.0, 8: 300.0})
    return Report("a processor", model, {name: figures})


def test_the_file_keeps_engines_that_a_later_run_of_the_same_model_does_not_measure(
    tmp_path: Path,
) -> None:
    file = tmp_path / "figures.json"
    for name in reversed(ORDER):
        write_report(file, report(name), ORDER)
    assert tuple(read_report(file).engines) == ORDER
    write_report(file, report(ORDER[1], model="another"), ORDER)
    assert tuple(read_report(file).engines) == ORDER[1:]


def test_the_drawing_is_valid_and_names_each_engine_and_figure() -> None:
    texts = [node.text for node in ET.fromstring(svg(report(ORDER[1]))).iter()]
    assert {ORDER[1], "prompt of 3,000 words", "8 clients", "700", "300"} <= set(texts)
