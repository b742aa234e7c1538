"""A progress bar on a terminal; in a file or pipe a line for each tenth."""

import sys
from typing import TYPE_CHECKING

from cli.commands.printing import size

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress:
    """Shows how far something is, one phase after the other."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._phase = ""
        self._task: TaskID | None = None
        self._shown_tenth = -1

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def show(self, phase: str, n: int, total: int, *, of_bytes: bool = True) -> None:
        """Show that `n` of `total` bytes, or things, of this phase are done."""
        if phase != self._phase:
            self._end()
            self._phase, self._shown_tenth = phase, -1
        if sys.stdout.isatty():
            self._show_bar(phase, n, total, of_bytes=of_bytes)
            return
        tenth = 10 * n // max(total, 1)
        if tenth != self._shown_tenth:
            self._shown_tenth = tenth
            whole = f" of {size(total)}" if of_bytes else ""
            sys.stdout.write(f"{phase}: {10 * tenth} %{whole}\n")
            sys.stdout.flush()

    def _show_bar(self, phase: str, n: int, total: int, *, of_bytes: bool) -> None:
        # Imported here: it takes 0.1 s, and only terminals need it.
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bar

        if self._bar is None or self._task is None:
            kind = (
                (DownloadColumn(binary_units=True), TransferSpeedColumn())
                if of_bytes
                else (MofNCompleteColumn(),)
            )
            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), *kind, TimeRemainingColumn()
            )
            self._bar.start()
            self._task = self._bar.add_task(phase, total=total, completed=n)
        self._bar.update(self._task, completed=n, total=total)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
