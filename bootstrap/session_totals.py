"""Adds up pytest's sessions, so that the last lines of `run.py test` are about all of them."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

WIDTH = 80


def report_arguments(folder: Path, session: str) -> list[str]:
    """The arguments with which pytest writes the results of `session` into `folder`."""
    # The format that can hold the properties that tests record.
    return ["-ojunit_family=xunit1", f"--junitxml={folder / session}.xml"]


def totals(folder: Path, n_sessions: int, began_s: float) -> str:
    """Return the failed tests of all sessions and one summary line in pytest's format.

    Args:
        folder: holds the results that the sessions wrote.
        n_sessions: the number of sessions; one without results died.
        began_s: `time.monotonic()` when the first session began.
    """
    reports = sorted(folder.glob("*.xml"))
    cases = [case for report in reports for case in ElementTree.parse(report).iter("testcase")]
    outcomes = [_outcome(case) for case in cases]
    lines = [
        f"{outcome.upper().removesuffix('S')} {case.get('classname')}::{case.get('name')}"
        for case, outcome in zip(cases, outcomes, strict=True)
        if outcome in ("failed", "errors")
    ]
    counts = Counter(outcomes) + Counter({"died": n_sessions - len(reports)})
    order = ("failed", "passed", "skipped", "errors", "died")
    return "\n".join([*lines, _line(counts, order, time.monotonic() - began_s)])


def _outcome(case: ElementTree.Element) -> str:
    names = {"failure": "failed", "error": "errors", "skipped": "skipped"}
    return next((names[child.tag] for child in case if child.tag in names), "passed")


def _line(counts: Counter[str], order: Sequence[str], seconds: float) -> str:
    names = {"died": "session(s) died"}
    parts = [f"{counts[name]} {names.get(name, name)}" for name in order if counts[name]]
    return f" {', '.join(parts)} in {seconds:.2f}s ".center(WIDTH, "=")
