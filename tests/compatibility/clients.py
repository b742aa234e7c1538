"""Which clients get through their tool loops: the tests of `tests/clients`, run here."""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from tests.compatibility.page import table

CLIENTS = Path(__file__).parents[1] / "clients"
HEAD = ("client", "version", "turns", "tools", "streamed")


def clients() -> str:
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", str(CLIENTS)],
            check=True,
        )
        properties = ElementTree.parse(report).iter("property")
        rows = [
            [str(found.get("name")), *str(found.get("value")).split("; ")]
            for found in properties
            if "; " in str(found.get("value"))
        ]
    return table(HEAD, sorted(rows))
