"""`y26hkx ls`, `show`, `ps`, `load` and `unload`."""

import argparse
import sys
from dataclasses import asdict
from typing import Any

from chat_worker.settings import ChatSettings
from cli.capacity import ModelCapacity, capacities
from cli.commands.failure import CommandError
from cli.commands.printing import colored, size, table, write, write_json
from cli.commands.progress import Progress
from cli.commands.server import Server
from common.model_ids import same_model_id
from common.settings import read_or_exit
from embed_worker.settings import EmbedSettings
from worker_runtime.machine import read_machine
from worker_runtime.model_files.models_toml import ModelsToml

NOT_LOADED = "unloaded"


def ls(chosen: argparse.Namespace) -> int:
    """List the models of the models folder and the built-in ones; no server is needed."""
    models = here()
    if chosen.json:
        write_json([asdict(model) for model in models])
        return 0
    rows = [
        [
            model.id + (" (default)" if model.is_default else ""),
            model.capability,
            size(model.size_bytes),
            model.quantization or "-",
            f"{model.context_length:,}" if model.context_length else "-",
            _fits(model),
        ]
        for model in models
    ]
    table(["model", "kind", "size", "quantization", "context", "fits"], rows)
    return 0


def here() -> list[ModelCapacity]:
    """The models that a server started here would serve. What is wrong with models.toml goes to
    stderr."""
    chat = read_or_exit(ChatSettings, "y26hkx")
    embed = read_or_exit(EmbedSettings, "y26hkx")
    options = ModelsToml(chat.models_dir)
    options.read()
    if options.problem:
        sys.stderr.write(f"{options.problem}\n")
    return capacities(chat, embed, read_machine())


def show(chosen: argparse.Namespace) -> int:
    """Print what the files say, and what the server says if one runs."""
    found = [model for model in here() if same_model_id(model.id, chosen.model)]
    if not found:
        raise CommandError(f"there is no model {chosen.model!r} here", ["y26hkx ls lists them"])
    facts = asdict(found[0])
    server = Server()
    if server.runs():
        facts |= server.model(found[0].id) or {}
    if chosen.json:
        write_json(facts)
        return 0
    for name, value in facts.items():
        if value not in (None, "", [], {}):
            shown = size(value) if name.endswith("_bytes") else value
            write(f"{name.replace('_', ' '):<22}{shown}")
    return 0


def ps(chosen: argparse.Namespace) -> int:
    """List the models that the server has in memory, or on their way there."""
    models = Server(chosen.server).get("/v1/models")["data"]
    busy = [
        one
        for one in models
        if one["state"] not in (NOT_LOADED, "failed") and "alias_of" not in one
    ]
    if chosen.json:
        write_json(busy)
        return 0
    rows = [
        [
            model["id"],
            model["state"] + ("; reduced" if model.get("reductions") else ""),
            size(model.get("resident_bytes", 0)),
            f"{model.get('context_length') or 0:,}",
            f"{model.get('n_leases', 0)} + {model.get('n_waiting', 0)}",
            _expiry(model),
        ]
        for model in busy
    ]
    table(["model", "state", "memory", "context", "running + waiting", "unloaded in"], rows)
    return 0


def load(chosen: argparse.Namespace) -> int:
    """Load a model and show the progress."""
    body: dict[str, Any] = {"model": chosen.model, "force": chosen.force}
    if chosen.context is not None:
        body["context_length"] = chosen.context
    if chosen.keep_alive is not None:
        is_number = chosen.keep_alive.lstrip("-").isdecimal()
        body["keep_alive"] = int(chosen.keep_alive) if is_number else chosen.keep_alive
    last: dict[str, Any] = {}
    with Server(chosen.server).events("/v1/models/load", body) as events, Progress() as progress:
        for event in events:
            last = event
            if not chosen.json and "fraction" in event:
                progress.show("loading", round(100 * event["fraction"]), 100, of_bytes=False)
    if chosen.json:
        write_json(last)
        return 0
    write(f"{last['model']} is ready: {size(last.get('resident_bytes', 0))}")
    for reduction in last.get("reductions", ()):
        write(f"  {reduction}")
    return 0


def unload(chosen: argparse.Namespace) -> int:
    """Unload a model, and say what that freed."""
    body = {"model": chosen.model, "force": chosen.force}
    freed = Server(chosen.server).post("/v1/models/unload", body)
    if chosen.json:
        write_json(freed)
    else:
        write(f"{freed['model']} is unloaded: {size(freed['freed_bytes'])} are free")
    return 0


def _fits(model: ModelCapacity) -> str:
    if model.broken:
        return colored(f"no: {model.broken}", "red")
    if model.verdict == "fits reduced":
        return colored(f"reduced: {'; '.join(model.reductions)}", "yellow")
    if model.verdict == "does not fit" and model.room_bytes is not None:
        free = size(max(model.room_bytes, 0))
        return colored(f"no: it needs {size(model.least_bytes)}, {free} are free", "red")
    return colored("yes", "green") if model.verdict == "fits" else colored("no", "red")


def _expiry(model: dict[str, Any]) -> str:
    if model.get("pinned"):
        return "never (pinned)"
    left = model.get("expires_in_seconds")
    return "-" if left is None else f"{int(left) // 60} min {int(left) % 60} s"
