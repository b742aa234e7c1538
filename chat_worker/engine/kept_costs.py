"""The measured costs of a model's steps in a file, so that the first steps after a load are planned
as the last ones before it.

They are worth nothing elsewhere: each file belongs to one model, way of loading, processor and
number of threads, which `identity` names. What cannot be read, or is another's, is ignored; the
next file replaces it.
"""

import hashlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from common.atomic_file import replace_file

VERSION = 1
SUFFIX = ".costs"
MAX_FILE_BYTES = 64 * 1024
# All models together; the least recently written files are deleted.
MAX_FILES = 64

Seconds = Annotated[float, Meta(ge=0, lt=3600)]
Count = Annotated[int, Meta(ge=0, le=2**24)]
Feature = Annotated[float, Meta(ge=0, lt=1e12)]


class MeasuredCosts(Struct, frozen=True):
    """What `StepCosts` has learnt.

    Args:
        steps: features and seconds of the latest steps with prompts, the oldest first.
        largest: tokens of prompts in the largest of all steps.
        mixed: the share of the answers' cost that remains in a step with prompts.
        answers: seconds of steps without prompts, by their number of rows.
        products: what the model was used for, see `WorkSeen`.
    """

    steps: Annotated[list[tuple[Feature, Feature, Feature, Seconds]], Meta(max_length=256)] = []
    largest: Count = 0
    mixed: Annotated[float, Meta(ge=0, le=1)] = 0.0
    answers: Annotated[dict[Count, Seconds], Meta(max_length=1024)] = {}
    products: Annotated[dict[Count, Feature], Meta(max_length=16)] = {}


class CostsFile(Struct, frozen=True):
    """What the file contains."""

    version: int
    identity: str
    costs: MeasuredCosts


_decoder = msgspec.json.Decoder(CostsFile)


class KeptCosts:
    """The file of one model's costs.

    Args:
        folder: of all models' files; it is created with the first one.
        identity: names everything that the costs depend on.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._identity = identity
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._path = folder / f"{name}{SUFFIX}"

    def read(self) -> MeasuredCosts | None:
        """What was measured before; None if there is nothing that can be used."""
        try:
            with self._path.open("rb") as file:
                found = _decoder.decode(file.read(MAX_FILE_BYTES))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        is_own = (found.version, found.identity) == (VERSION, self._identity)
        return found.costs if is_own else None

    def write(self, costs: MeasuredCosts) -> None:
        """Replace what was kept. A failure is reported, and costs the next load its knowledge."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = msgspec.json.encode(CostsFile(VERSION, self._identity, costs))
            replace_file(self._path, content)
            self._drop_oldest()
        except OSError as error:
            sys.stderr.write(f"the measured costs of steps were not kept: {error.strerror}\n")

    def _drop_oldest(self) -> None:
        dated = []
        for path in self._path.parent.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process deleted it
                dated.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(dated)[:-MAX_FILES]:
            path.unlink(missing_ok=True)
