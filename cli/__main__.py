"""`y26hkx COMMAND`, also `python -m cli COMMAND`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.arguments import RUNS, add_commands, run_command

SERVICES = {
    "simple": ("simple", "chat and health in one process, without embeddings (SIMPLE_PORT, 8002)"),
    "gateway": ("gateway", "the OpenAI API alone; needs workers (CHAT_WORKERS, EMBED_WORKERS)"),
    "chat-worker": ("chat_worker", "one chat worker alone (CHAT_WORKER_PORT, WORKER_TOKEN)"),
    "embed-worker": ("embed_worker", "one embedding worker alone (EMBED_WORKER_PORT)"),
}
LAUNCH = "launch"
EPILOG = """\
All settings are environment variables or lines of a .env file in the current folder. The options
above are the most used settings and win over both. .env.example lists all of them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["key"]:
        # It has options of its own, and knows them by what the supervisor does not import.
        from cli.keys import keys

        return keys(given[1:])
    chosen = _parsed(given)
    if chosen.command == "version":
        return _print_version(as_json=chosen.json)
    if chosen.command == "serve":
        return _serve(chosen)
    if chosen.command == "doctor":
        from cli.doctor import doctor

        return doctor({}, as_json=chosen.json)
    if chosen.command == "selftest":
        from cli.selftest import selftest

        return selftest(as_json=chosen.json, again=chosen.again, brief=chosen.brief)
    if chosen.command == "estimate":
        from cli.estimate import OPTIONS, estimate

        wanted = {name: getattr(chosen, name) for name in OPTIONS}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        return estimate(chosen.path, wanted, as_json=chosen.json)
    if chosen.command in RUNS:
        return run_command(chosen)
    module, _ = SERVICES[chosen.command]
    if chosen.command == "simple":
        options = {"--host": chosen.host, "--port": chosen.port}
        given = [text for name, value in options.items() if value for text in (name, str(value))]
        sys.argv = ["y26hkx simple", *given]
    import runpy

    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    """The command and its options; a mistake ends the process."""
    parser = command_parser()
    behind: Sequence[str] = ()
    if given[:1] == [LAUNCH] and "--" in given:
        # argparse would take some of the client's arguments for ours.
        at = given.index("--")
        given, behind = given[:at], given[at + 1 :]
    chosen, rest = parser.parse_known_args(given)
    if rest and (not hasattr(chosen, "prompt") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        # argparse takes words behind an option for unknown ones.
        chosen.prompt += rest
    if behind:
        chosen.arguments = list(behind)
    return chosen


class _Version(argparse.Action):
    """`--version`, which reads the version only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parser.exit(_print_version(as_json=False))


def _print_version(*, as_json: bool) -> int:
    facts = {"y26hkx": _version(), "python": sys.version.split()[0]}
    text = f"y26hkx {facts['y26hkx']} (Python {facts['python']})"
    sys.stdout.write(f"{json.dumps(facts) if as_json else text}\n")
    return 0


def _serve(chosen: argparse.Namespace) -> int:
    from cli.serve import serve

    options = {"GATEWAY_HOST": chosen.host, "GATEWAY_PORT": chosen.port}
    options |= {"MODELS_DIR": chosen.models_dir, "LOG_LEVEL": chosen.log_level}
    given = {name: str(value) for name, value in options.items() if value is not None}
    return serve(given, key_if_none=chosen.key_if_none)


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="y26hkx",
        description="A local OpenAI-compatible server for chat and embeddings.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_commands(commands)
    serve = commands.add_parser(
        "serve",
        help="gateway, chat worker and embedding worker, supervised",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--host", help="address to listen on (GATEWAY_HOST, 127.0.0.1)")
    serve.add_argument(
        "--port", type=int, help="port to listen on (GATEWAY_PORT, 8001); 0: a free one"
    )
    serve.add_argument("--models-dir", help="folder with models (MODELS_DIR, ./models)")
    serve.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR (LOG_LEVEL, INFO)")
    serve.add_argument(
        "--key-if-none",
        action="store_true",
        help="where no API key is set, make one for this run and print it",
    )
    doctor = commands.add_parser(
        "doctor", help="show this machine, its settings, which models fit, and what may go wrong"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON for scripts")
    selftest = commands.add_parser(
        "selftest", help="test whether llama.cpp computes correctly on this processor"
    )
    selftest.add_argument("--json", action="store_true", help="print JSON for scripts")
    selftest.add_argument("--brief", action="store_true", help="print one line")
    selftest.add_argument(
        "--again", action="store_true", help="discard the stored result, and test"
    )
    _add_estimate(commands)
    commands.add_parser("key", help="add, list, rotate and revoke API keys, and print their use")
    for name, (_, what) in SERVICES.items():
        service = commands.add_parser(name, help=what)
        if name == "simple":
            service.add_argument("--host", help="address to listen on (GATEWAY_HOST, 127.0.0.1)")
            service.add_argument("--port", type=int, help="port to listen on (SIMPLE_PORT, 8002)")
    version = commands.add_parser("version", help="print the version")
    version.add_argument("--json", action="store_true", help="print JSON for scripts")
    return parser


def _add_estimate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    estimate = commands.add_parser(
        "estimate", help="estimate the memory of a model, and whether it fits now"
    )
    estimate.add_argument("path", type=Path, help="a GGUF file, a model's folder, or an id")
    estimate.add_argument("--ctx", type=int, help="context of one request in tokens (LLAMA_CTX)")
    estimate.add_argument("--slots", type=int, help="requests at a time (MAX_CONCURRENT_REQUESTS)")
    estimate.add_argument("--ubatch", type=int, help="tokens computed at a time (LLAMA_UBATCH)")
    estimate.add_argument("--dtype", help="dtype of transformers models (TORCH_DTYPE)")
    estimate.add_argument("--kv-type", help="dtype of the KV cache: f16 or q8_0 (LLAMA_KV_TYPE)")
    estimate.add_argument("--quantization", help="4bit, 8bit or none (MODEL_QUANTIZATION)")
    estimate.add_argument("--json", action="store_true", help="print JSON for scripts")


def _version() -> str:
    # Imported here: it loads the e-mail parser, which would stay in the supervisor's memory.
    from common.packages import version_of

    return version_of("y26hkx", missing="(not installed)")


if __name__ == "__main__":
    sys.exit(main())
