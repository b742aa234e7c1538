"""`python -m cli.preflight`: what is wrong with the settings, and which models were found.

`y26hkx serve` runs it in a process of its own, because the supervisor stays small, and reads the
one line of JSON that it prints.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from chat_worker import headers
from chat_worker.places import EMBEDDING_FOLDER, GUIDE_FOLDER
from cli.capacity import ModelCapacity
from cli.commands.printing import size
from cli.doctor import examine_services
from cli.doctor_checks import models_toml, names
from cli.settings import StackSettings, dotenv
from worker_runtime.machine import read_machine
from worker_runtime.model_files import unique_ids
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folder_listing import Listings
from worker_runtime.model_files.model_places import gguf_places, may_be_model

MOST_LINES = 12
# A server that starts with these is not the one that its settings describe. The services themselves
# refuse values that are not valid; other failures are of one model, and the rest serves.
REFUSED = frozenset(
    {
        "unknown_name",
        "main_model_missing",
        "no_models_folder",
        "unreadable_models_folder",
        "models_toml_wrong",
    }
)


class _Kept(logging.Handler):
    """Keeps the sentences of scans about models that they do not take."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences[record.getMessage()] = None


def main() -> int:
    settings = StackSettings.read({})
    notes = _Kept()
    unique_ids.log.addHandler(notes)
    unique_ids.log.setLevel(logging.INFO)
    models, found = examine_services(settings, read_machine())
    found += names(settings, dotenv())
    folder = f"{settings.models_dir}{os.sep}"
    # The built-in models are not the user's to put in order; those of a checkout are in its folder.
    built_in = str(GUIDE_FOLDER)
    left_out = [s.replace(folder, "") for s in notes.sentences if folder in s and built_in not in s]
    found += models_toml(settings.models_dir)
    found = [risk for risk in found if risk.severity != "info" and risk.id != "invalid_setting"]
    refused = [risk for risk in found if risk.severity == "failure" and risk.id in REFUSED]
    report = {
        "refused": [str(risk) for risk in refused],
        "risks": [str(risk) for risk in found if risk not in refused],
        "models": list(model_lines(models, [*left_out, *_not_taken(settings.models_dir)])),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def model_lines(models: Sequence[ModelCapacity], left_out: Sequence[str]) -> Iterator[str]:
    """At most `MOST_LINES` lines: the models that are served, then those that are not, and why."""
    lines = [f"model            {_described(model)}" for model in models if not model.broken]
    lines += [f"not taken        {m.id}: {m.broken}" for m in models if m.broken]
    lines += [f"not taken        {sentence}" for sentence in left_out]
    yield from lines[: MOST_LINES - 1] if len(lines) > MOST_LINES else lines
    if len(lines) > MOST_LINES:
        yield f"                 and {len(lines) - MOST_LINES + 1} more: y26hkx ls"


def _described(model: ModelCapacity) -> str:
    default = ", default" if model.is_default else ""
    kind = f", {model.quantization}" if model.quantization else ""
    facts = f"{size(model.size_bytes)}{kind}, {model.verdict}"
    return f"{model.id} ({model.capability}{default}): {facts}"


def _not_taken(models_dir: Path) -> Iterator[str]:
    """Sentences about GGUF files that neither chat nor are where embedding models are."""
    listings = Listings()
    root = listings.of(models_dir)
    within = [e.path for e in root if e.is_folder and may_be_model(e.name)]
    for folder in (models_dir, *(path for path in within if path.name != EMBEDDING_FOLDER)):
        for place in gguf_places(listings.of(folder)):
            try:
                is_chat = headers.read(place.path).is_chat
            except (InvalidModelFile, OSError):
                # Listed as a broken model.
                continue
            if not is_chat:
                yield f"{place.path.name}: it does not chat; models that embed go to embedding/"


if __name__ == "__main__":
    sys.exit(main())
