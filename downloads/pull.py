"""Downloads one model: asks the hub, plans, fetches, checks, and makes the model visible."""

import errno
import os
import threading
import time
from collections.abc import Callable

from common.error_texts import ErrorText
from common.errors import DiskFull, InvalidRequest
from downloads.events import Done, Downloading, Event, Planned, Resolving, Verifying
from downloads.plan import Task, make_plan
from downloads.settings import DownloadSettings
from downloads.staging import Staging, name_taken
from downloads.transfer import PART_BYTES, transfer
from downloads.web import Web
from worker_runtime.model_files.default_model import record_default

Tell = Callable[[Event], None]
# Between two reports of progress.
REPORT_S = 0.25
# The speed is that of the last seconds.
SPEED_S = 3.0


def pull(
    name: str,
    settings: DownloadSettings,
    tell: Tell,
    *,
    force: bool = False,
    plan_only: bool = False,
    agree: Callable[[Task], bool] = lambda task: True,
) -> Done | None:
    """Download the model called `name`; None if it was only planned.

    Args:
        tell: called with each event, perhaps from another thread, but never twice at once.
        force: download a model that does not fit, too.
        agree: asked before anything is downloaded.
    Raises:
        ServingError: with the reason. What has arrived stays for the next download of the same.
    """
    began_s = time.monotonic()
    tell(Resolving())
    with Web(settings) as web:
        _require_folder(settings)
        task = make_plan(name, settings, web, force=force)
        tell(Planned(task.plan))
        if plan_only or not agree(task):
            return None
        was_there = _is_there(task, settings)
        if not was_there:
            try:
                _fetch(task, settings, web, tell)
            except OSError as error:
                raise _not_written(error) from error
    plan = task.plan
    is_default = plan.capability == "chat" and record_default(settings.models_dir, plan.model)
    seconds = round(time.monotonic() - began_s, 3)
    done = Done(plan.model, plan.target, plan.size_bytes, seconds, was_there, is_default)
    tell(done)
    return done


def _require_folder(settings: DownloadSettings) -> None:
    try:
        settings.models_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(error) from error


def _is_there(task: Task, settings: DownloadSettings) -> bool:
    """Whether the same files are there already.

    Raises:
        InvalidRequest: others of these names are.
    """
    places = [(settings.models_dir.joinpath(*path.parts), file) for file, path in task.files]
    target = settings.models_dir / task.plan.target
    if not os.path.lexists(target):
        return False
    if all(place.is_file() and place.stat().st_size == file.size_bytes for place, file in places):
        return True
    raise name_taken(task.files[0][1] if task.folder is None else task.folder)


def _fetch(task: Task, settings: DownloadSettings, web: Web, tell: Tell) -> None:
    with Staging(settings.models_dir, task.files) as staging:
        missing_bytes = staging.missing_bytes(PART_BYTES)
        staging.require_space(missing_bytes)
        total = task.plan.size_bytes
        model = task.plan.model
        with _Progress(
            total - missing_bytes,
            lambda n, speed: tell(Downloading(model, n, total, speed)),
        ) as progress:
            transfer(
                task.files,
                staging,
                web,
                task.headers,
                connections=settings.connections,
                stall_s=settings.stall_s,
                on_bytes=progress.add,
            )
        with _Progress(0, lambda n, speed: tell(Verifying(model, n, total))) as progress:
            for number in range(len(task.files)):
                staging.check(number, progress.add)
        staging.publish(task.folder)


class _Progress:
    """Reports a count of bytes a few times a second, from a thread of its own."""

    def __init__(self, n_bytes: int, report: Callable[[int, int], None]) -> None:
        self._n_bytes = n_bytes
        self._report = report
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress")
        # (time, count) of the last seconds.
        self._seen: list[tuple[float, int]] = []

    def __enter__(self) -> "_Progress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self._n_bytes += n_bytes

    def _run(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._ended.wait(REPORT_S)
            now_s = time.monotonic()
            self._seen.append((now_s, self._n_bytes))
            self._seen = [one for one in self._seen if now_s - one[0] <= SPEED_S]
            first_s, first = self._seen[0]
            elapsed_s = now_s - first_s
            speed = int((self._n_bytes - first) / elapsed_s) if elapsed_s else 0
            self._report(self._n_bytes, speed)


def _not_written(error: OSError) -> DiskFull | InvalidRequest:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            ErrorText("pull_disk_is_full"),
            param="model",
            suggestions=(ErrorText("free_disk_space"),),
        )
    return InvalidRequest(
        ErrorText("models_folder_not_written", reason=error.strerror or type(error).__name__),
        param="model",
        suggestions=(ErrorText("set_setting", setting="MODELS_DIR"),),
    )
