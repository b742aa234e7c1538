"""The arguments of the commands for people. Only argparse is imported: `--help` must be quick."""

import argparse
import importlib
from typing import Any, Protocol

# By command: the module and the function in it that runs it.
RUNS = {
    "run": "chat.run",
    "chat": "chat.chat",
    "pull": "pull.pull",
    "rm": "pull.rm",
    "ls": "models.ls",
    "show": "models.show",
    "ps": "models.ps",
    "load": "models.load",
    "unload": "models.unload",
    "embed": "embed.embed",
    "stop": "stop.stop",
    "completion": "completion.completion",
    "alias": "alias.alias",
    "bench": "bench.bench",
    "launch": "launch.launch",
    "logs": "logs.logs",
    "service": "service.service",
}
SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")
AGENTS = ("codex", "opencode", "qwen-code", "aider")
# The commands that can ask a server elsewhere.
ASK_SERVER = frozenset({"run", "chat", "rm", "ps", "load", "unload", "embed", "bench", "launch"})


class _Commands(Protocol):
    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser: ...


def add_commands(commands: _Commands) -> None:
    """Add the parsers of these commands."""
    run = _command(commands, "run", "chat with a model, which is downloaded if it is not here")
    run.add_argument("model", help="an id (y26hkx ls), or a name such as hf.co/org/repo:Q4_K_M")
    _add_chat(run)
    chat = _command(commands, "chat", "chat with a model of the running server")
    chat.add_argument("--model", help="an id (y26hkx ls); without it the default model")
    _add_chat(chat)
    _add_pull(_command(commands, "pull", "download a model, after showing what fits"))
    remove = _command(commands, "rm", "delete a model from the models folder")
    _add_model(remove, can_force=True)
    _command(commands, "ls", "the models here: size, quantization, context, and whether they fit")
    _add_model(_command(commands, "show", "all that is known of a model"))
    _command(commands, "ps", "the loaded models: memory, context, requests, when they go")
    load = _command(commands, "load", "load a model now")
    _add_model(load)
    load.add_argument("--context", type=int, help="tokens of one request, until it is unloaded")
    load.add_argument("--force", action="store_true", help="also if it seems not to fit")
    load.add_argument("--keep-alive", help="how long it stays loaded: 300, 5m, -1 for ever")
    _add_model(_command(commands, "unload", "unload a model now"), can_force=True)
    _add_embed(_command(commands, "embed", "compute the vectors of the texts in a file"))
    _command(commands, "stop", "stop the server that runs here")
    completion = _command(commands, "completion", "print what makes a shell complete commands")
    completion.add_argument("shell", choices=SHELLS)
    _add_alias(_command(commands, "alias", "other names of models: list, set or remove them"))
    bench = _command(
        commands, "bench", "measure a model, beside its own past and other servers here"
    )
    bench.add_argument("model", nargs="?", help="an id (y26hkx ls); without it the default model")
    bench.add_argument("--no-peers", action="store_true", help="ask no other server")
    _add_launch(
        _command(
            commands,
            "launch",
            "run a coding agent with a model of this server; its arguments follow --",
        )
    )
    logs = _command(commands, "logs", "what the server here prints, and where that is kept")
    logs.add_argument("-n", "--lines", type=int, default=50, help="as many of the last lines")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    service = _command(commands, "service", "let the server start with the session")
    service.add_argument("action", choices=("install", "status", "uninstall"))
    _add_print(service)


def run_command(chosen: argparse.Namespace) -> int:
    """Run the command, and return the exit status."""
    from cli.commands.failure import reported

    module, _, function = RUNS[chosen.command].partition(".")

    def run(chosen: argparse.Namespace) -> int:
        found: Any = getattr(importlib.import_module(f"cli.commands.{module}"), function)
        return int(found(chosen))

    return reported(chosen, run)


def _command(commands: _Commands, name: str, what: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what)
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    if name in ASK_SERVER:
        parser.add_argument(
            "--server", help="address of the server (http://127.0.0.1:8001, by GATEWAY_PORT)"
        )
    return parser


def _add_alias(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="the other name, such as gpt-4o or mine:small")
    parser.add_argument("model", nargs="?", help="the id of the model that it means (y26hkx ls)")
    parser.add_argument("--remove", metavar="NAME", help="forget this alias")


def _add_launch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", choices=AGENTS)
    parser.add_argument("--model", help="an id (y26hkx ls); without it the default model")
    parser.add_argument("--context", type=int, help="load it with this context, in tokens")
    parser.set_defaults(arguments=[])
    _add_print(parser)


def _add_print(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--print", action="store_true", help="only show what would be done")


def _add_model(parser: argparse.ArgumentParser, *, can_force: bool = False) -> None:
    parser.add_argument("model", help="its id (y26hkx ls)")
    if can_force:
        parser.add_argument("--force", action="store_true", help="end the requests that use it")


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="*", help="ask only this, and end")
    parser.add_argument("--system", help="system prompt")
    parser.add_argument("--max-tokens", type=int, help="longest answer in tokens")
    parser.add_argument("--temperature", type=float)


def _add_pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        help="hf.co/org/repo:Q4_K_M, org/repo, modelscope.cn/org/repo, "
        "ollama.com/library/name:tag or an address",
    )
    parser.add_argument("--plan", action="store_true", help="only show what fits")
    parser.add_argument("--force", action="store_true", help="also a model that does not fit")
    parser.add_argument("-y", "--yes", action="store_true", help="take what is proposed")


def _add_embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="one text per line; - for standard input")
    parser.add_argument("-o", "--output", required=True, help="a .npy, .jsonl or .parquet file")
    parser.add_argument("--model", help="an embedding model's id; without it the default")
    parser.add_argument("--batch", type=int, default=64, help="texts of one request")
