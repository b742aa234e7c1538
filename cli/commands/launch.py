"""`y26hkx launch CLIENT`: another program with a model of this server, for one run. Its own
configuration is not touched: all it needs are arguments, variables and temporary files.

Sources: https://developers.openai.com/codex/config-reference, https://opencode.ai/docs/providers,
https://qwenlm.github.io/qwen-code-docs, https://aider.chat/docs/llms/openai-compat.html.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.commands.chat import default_model
from cli.commands.failure import CommandError
from cli.commands.local_server import server_for
from cli.commands.printing import write, write_json
from cli.commands.server import Server
from cli.settings import StackSettings
from common.loopback import UNIX

PROVIDER = "y26hkx"
NO_KEY, HIDDEN = "none", "…"
# Instructions and tools of coding agents alone are longer than most prompts.
LEAST_CONTEXT = 16_384


@dataclass(frozen=True)
class Target:
    """
    Args:
        api: address of the API, with /v1.
        context: tokens of one request; 0: unknown.
        folder: a temporary one, for files.
    """

    api: str
    key: str
    model: str
    context: int
    folder: Path


@dataclass(frozen=True)
class Launch:
    """How a client is started: arguments before those of the user, and more variables."""

    arguments: list[str] = field(default_factory=list)
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    program: str
    install: str
    launch: Callable[[Target], Launch]


def launch(chosen: argparse.Namespace) -> int:
    """Start a client, and return its exit status."""
    client = CLIENTS[chosen.client]
    program = shutil.which(client.program)
    only_shows = chosen.print or chosen.json
    if program is None and not only_shows:
        raise CommandError(f"{client.program} is not installed", [client.install])
    with (
        server_for(chosen.server) as server,
        tempfile.TemporaryDirectory(prefix="y26hkx-launch-") as folder,
    ):
        target = _target(chosen, server, Path(folder), shows=only_shows)
        how = client.launch(target)
        command = [program or client.program, *how.arguments, *chosen.arguments]
        if only_shows:
            _show(command, how.variables, as_json=chosen.json)
            return 0
        _warn(target)
        return _run(command, how.variables)


def _target(chosen: argparse.Namespace, server: Server, folder: Path, *, shows: bool) -> Target:
    if server.address.startswith(UNIX):
        raise CommandError(
            f"{chosen.client} cannot use a Unix socket", ["serve on a port: unset GATEWAY_SOCKET"]
        )
    model = server.model(chosen.model or default_model(server))
    if model is None:
        raise CommandError(f"there is no model {chosen.model!r}", ["y26hkx ls lists them"])
    if chosen.context:
        wanted = {"model": model["id"], "context_length": chosen.context}
        model |= server.post("/v1/models/load", wanted)
    key = server.key or NO_KEY
    if server.key and shows:
        key = HIDDEN
    context = int(model.get("context_length") or 0)
    return Target(f"{server.address}/v1", key, str(model["id"]), context, folder)


def _warn(target: Target) -> None:
    if 0 < target.context < LEAST_CONTEXT:
        sys.stderr.write(
            f"{target.model} has a context of {target.context:,} tokens, short for a coding agent: "
            f"--context {LEAST_CONTEXT} gives it more until it is unloaded\n"
        )


def _run(command: list[str], variables: Mapping[str, str]) -> int:
    with subprocess.Popen(
        command, env={**StackSettings.read({}).inherited, **variables}
    ) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # Ctrl-C is the client's, which decides what it means.
                continue


def _show(command: list[str], variables: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        write_json({"command": command, "variables": dict(variables)})
        return
    for name, value in variables.items():
        write(f"{name}={value}")
    write(" ".join(command))


def _codex(target: Target) -> Launch:
    provider = {
        "name": "Y26HKX",
        "base_url": target.api,
        "wire_api": "responses",
        "env_key": "Y26HKX_API_KEY",
    }
    wanted: dict[str, Any] = {"model": target.model, "model_provider": PROVIDER}
    wanted |= {f"model_providers.{PROVIDER}.{name}": value for name, value in provider.items()}
    if target.context:
        wanted["model_context_window"] = target.context
    options = [f"{name}={_in_toml(value)}" for name, value in wanted.items()]
    arguments = [text for option in options for text in ("-c", option)]
    return Launch(arguments, {"Y26HKX_API_KEY": target.key})


def _in_toml(value: str | int) -> str:
    """A text in single quotes where that is possible: Windows' batch files lose double ones."""
    is_plain = isinstance(value, str) and "'" not in value
    # JSON's texts and numbers are TOML's, too.
    return f"'{value}'" if is_plain else json.dumps(value)


def _opencode(target: Target) -> Launch:
    model: dict[str, Any] = {"name": target.model}
    if target.context:
        model["limit"] = {"context": target.context, "output": max(target.context // 4, 1)}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Y26HKX",
        "options": {"baseURL": target.api, "apiKey": target.key},
        "models": {target.model: model},
    }
    name = f"{PROVIDER}/{target.model}"
    config = {"model": name, "small_model": name, "provider": {PROVIDER: provider}}
    return Launch([], {"OPENCODE_CONFIG_CONTENT": json.dumps(config)})


def _qwen_code(target: Target) -> Launch:
    generation = {"contextWindowSize": target.context} if target.context else {}
    settings = {
        "security": {"auth": {"selectedType": "openai"}},
        "model": {"name": target.model, "generationConfig": generation},
    }
    file = target.folder / "settings.json"
    file.write_text(json.dumps(settings), "utf-8")
    variables = {
        "OPENAI_BASE_URL": target.api,
        "OPENAI_API_KEY": target.key,
        "OPENAI_MODEL": target.model,
        "QWEN_CODE_SYSTEM_SETTINGS_PATH": str(file),
    }
    return Launch(["--auth-type", "openai", "--model", target.model], variables)


def _aider(target: Target) -> Launch:
    name = f"openai/{target.model}"
    arguments = ["--model", name]
    if target.context:
        known = {"max_input_tokens": target.context, "litellm_provider": "openai", "mode": "chat"}
        file = target.folder / "models.json"
        file.write_text(json.dumps({name: known}), "utf-8")
        arguments += ["--model-metadata-file", str(file)]
    variables = {"OPENAI_API_BASE": target.api, "OPENAI_API_KEY": target.key}
    return Launch(arguments, variables)


CLIENTS = {
    "codex": Client("codex", "npm install -g @openai/codex", _codex),
    "opencode": Client("opencode", "npm install -g opencode-ai", _opencode),
    "qwen-code": Client("qwen", "npm install -g @qwen-code/qwen-code", _qwen_code),
    "aider": Client("aider", "uv tool install aider-chat", _aider),
}
