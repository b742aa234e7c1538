"""Downloads in the test's process from its hub, and what the models folder has afterwards."""

import os
from typing import Any

from downloads.events import Done, Event, Planned
from downloads.plan import Plan
from downloads.pull import pull
from downloads.settings import DownloadSettings
from tests.made_models import HONEST, gguf

MIB = 1 << 20
CHAT = {name: value for name, value in HONEST.items() if "pooling" not in name}
GGUF = gguf(CHAT)
# Of more than two parts of a download.
LARGE = GGUF + os.urandom(40 * MIB)


def run(name: str, settings: DownloadSettings, **options: Any) -> tuple[Done, list[Event]]:
    events: list[Event] = []
    done = pull(name, settings, events.append, **options)
    assert done is not None
    return done, events


def plan_of(name: str, settings: DownloadSettings, **options: Any) -> Plan:
    events: list[Event] = []
    assert pull(name, settings, events.append, plan_only=True, **options) is None
    (planned,) = (event for event in events if isinstance(event, Planned))
    return planned.plan


def models(settings: DownloadSettings) -> dict[str, bytes]:
    """The visible files of the models folder."""
    root = settings.models_dir
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not str(path.relative_to(root)).startswith(".")
    }
