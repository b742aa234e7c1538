"""`y26hkx pull` and `y26hkx rm`."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from cli.commands.printing import size, table, write, write_json
from cli.commands.progress import Progress
from cli.commands.server import Server
from common.settings import read_or_exit
from downloads.events import Done, Downloading, Event, Planned, Verifying
from downloads.plan import Plan, Task
from downloads.pull import pull as download
from downloads.remove import remove
from downloads.settings import DownloadSettings


def pull(chosen: argparse.Namespace) -> int:
    """Download a model; on a terminal after asking."""
    if chosen.json:
        download(chosen.name, _settings(), _print_event, force=chosen.force, plan_only=chosen.plan)
        return 0
    done = fetch(chosen.name, yes=chosen.yes, force=chosen.force, plan=chosen.plan)
    return 0 if done is not None or chosen.plan else 1


def fetch(name: str, *, yes: bool = False, force: bool = False, plan: bool = False) -> Done | None:
    """Download a model with a table of what fits, a question and progress; None: it is not there.

    Raises:
        ServingError: it cannot be downloaded.
    """
    asks = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    wanted: list[str] = []

    def agree(task: Task) -> bool:
        answer = _ask(task.plan) if asks and not wanted else ""
        wanted[:] = [answer] if answer else wanted
        return not answer

    while True:
        with Progress() as progress:
            done = download(
                f"{name}:{wanted[0]}" if wanted else name,
                _settings(),
                _teller(progress),
                force=force,
                plan_only=plan,
                agree=agree,
            )
        if done is not None or plan or wanted in ([], ["n"]):
            break
    if done is not None:
        write(f"{done.model} is {'there already' if done.was_there else 'there'}: {done.target}")
        if done.is_default:
            write("it answers requests that name no model")
    return done


def fetch_there(server: Server, name: str) -> str:
    """Let the server download a model into its own folder; returns the id, empty if not wanted.

    Raises:
        CommandError: it cannot, or must not.
    """
    reply = server.post("/v1/models/pull", {"model": name, "plan_only": True})
    plan = msgspec.convert(reply["plan"], Plan)
    print_plan(plan)
    answer = _ask(plan) if sys.stdin.isatty() and sys.stdout.isatty() else ""
    if answer == "n":
        return ""
    body = {"model": f"{name}:{answer}" if answer else name}
    model = ""
    with server.events("/v1/models/pull", body) as events, Progress() as progress:
        for event in events:
            model = event.get("model", "")
            if "total_bytes" in event:
                progress.show(event["status"], event["completed_bytes"], event["total_bytes"])
    return model


def rm(chosen: argparse.Namespace) -> int:
    """Delete a model: through the server where one runs, which knows who uses it."""
    server = Server(chosen.server)
    if server.runs():
        query = {"force": "true"} if chosen.force else {}
        removed = server.delete(f"/v1/models/{chosen.model}", **query)
    else:
        removed = msgspec.to_builtins(remove(chosen.model, _settings()))
    if chosen.json:
        write_json(removed)
    else:
        write(f"deleted {', '.join(removed['removed'])}: {size(removed['freed_bytes'])} are free")
    return 0


def print_plan(plan: Plan) -> None:
    """Print which variants there are, and which of them fit."""
    slots = ""
    if plan.fits[0].slots:
        fit = plan.fits[0]
        slots = f", {fit.slots} requests of {fit.context_tokens:,} tokens at a time"
    write(f"{plan.source}: {plan.capability} model{slots}")
    rows = []
    for fit in plan.fits:
        mark = "*" if fit.variant == plan.variant else " "
        fits = fit.verdict.replace("_", " ")
        if fit.verdict == "fits_reduced":
            fits += f": {'; '.join(fit.reductions)}"
        elif fit.verdict == "does_not_fit" and fit.room_bytes is not None:
            fits += f": {size(max(fit.room_bytes, 0))} are free for it"
        rows.append([f"{mark} {fit.variant}", size(fit.size_bytes), size(fit.need_bytes), fits])
    table(["  variant", "size", "memory", "fits"], rows)
    for sentence in plan.left_out:
        write(f"left out: {sentence}")


def _ask(plan: Plan) -> str:
    """Returns "" for yes, "n", or the name of another variant."""
    others = " or another variant" if len(plan.fits) > 1 else ""
    while True:
        try:
            answer = input(f"download {plan.variant} ({size(plan.size_bytes)})? [Y, n{others}] ")
        except EOFError:
            return "n"
        answer = answer.strip()
        if answer.lower() in ("", "y", "yes"):
            return ""
        if answer.lower() in ("n", "no"):
            return "n"
        for fit in plan.fits:
            if fit.variant.casefold() == answer.casefold():
                return fit.variant


def _teller(progress: Progress) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        match event:
            case Planned():
                print_plan(event.plan)
            case Downloading():
                progress.show("downloading", event.completed_bytes, event.total_bytes)
            case Verifying():
                progress.show("verifying", event.completed_bytes, event.total_bytes)
            case _:
                pass

    return tell


def _print_event(event: Any) -> None:
    write(msgspec.json.encode(event).decode())
    sys.stdout.flush()


def _settings() -> DownloadSettings:
    return read_or_exit(DownloadSettings, "y26hkx")
