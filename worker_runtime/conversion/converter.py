"""What every converter's process does around its own work.

Progress is written to stdout, a fraction and a stage per line.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from common.parent_watch import exit_with_parent
from worker_runtime.conversion.cache import Conversions, NotConvertible, R
from worker_runtime.conversion.process import OnProgress
from worker_runtime.memory.oom_signs import shortage_of


def run(
    conversions: Conversions[R],
    convert: Callable[[Path, Path, OnProgress], R],
    errors: tuple[type[Exception], ...],
) -> None:
    """Convert the model that the command line names, or record why it is not converted.

    Args:
        convert: writes the converted form of a model to a folder, and returns its record.
        errors: as of `keep_converted`.
    """
    exit_with_parent(force_after_s=1)
    source, folder = map(Path, sys.argv[1:3])
    # Libraries print to stdout; that output goes to stderr instead.
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def on_progress(fraction: float, stage: str) -> None:
        print(fraction, stage, file=progress, flush=True)

    keep_converted(
        conversions, source, folder, lambda fresh: convert(source, fresh, on_progress), errors
    )


def keep_converted(
    conversions: Conversions[R],
    source: Path,
    folder: Path,
    convert: Callable[[Path], R],
    errors: tuple[type[Exception], ...],
) -> None:
    """Convert a model, or record why it is not converted.

    Args:
        convert: writes the converted form of the model to a folder, and returns its record.
        errors: what `convert` raises if a library cannot handle the model.
    """

    def converted(fresh: Path) -> R:
        """A lack of memory is not recorded."""
        try:
            return convert(fresh)
        except NotConvertible as refusal:
            return conversions.refused(source, str(refusal))
        except errors as error:
            if is_shortage(error):
                raise
            traceback.print_exc()
            return conversions.refused(source, f"its conversion raised {type(error).__name__}")

    conversions.store(source, folder, converted)


def is_shortage(error: Exception) -> bool:
    """Whether memory ran out."""
    return shortage_of(error.__cause__ or error) is not None
