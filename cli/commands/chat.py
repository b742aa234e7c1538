"""`y26hkx run` and `y26hkx chat`: a conversation in the terminal."""

import argparse
import contextlib
import sys
from dataclasses import asdict

from cli.commands.conversation import Conversation, Spoken
from cli.commands.failure import CommandError
from cli.commands.local_server import server_for
from cli.commands.models import here
from cli.commands.printing import colored, write, write_json
from cli.commands.prompt import Prompt
from cli.commands.pull import fetch, fetch_there
from cli.commands.server import Server
from common.model_ids import same_model_id

HELP = """\
/model [ID]     the model that answers, or another one
/system [TEXT]  the system prompt, or another one; the conversation begins anew
/file PATH      add a text file to the next message
/clear          forget the conversation
/help           this list
/exit           end; Ctrl-D does, too
Ctrl-C stops an answer. A line that ends in \\ goes on; \"\"\" begins and ends several lines."""
MOST_FILE_BYTES = 1 << 20


def run(chosen: argparse.Namespace) -> int:
    """Chat with a model by whatever name: its id, or one to download."""
    server = Server(chosen.server)
    model = _known(server, chosen.model)
    if not model:
        if "/" not in chosen.model:
            raise CommandError(
                f"there is no model {chosen.model!r} here",
                ["y26hkx ls lists them; to download one, write org/repo"],
            )
        # Scripts read the answer alone.
        out = sys.stderr if chosen.json else sys.stdout
        with contextlib.redirect_stdout(out):
            model = _download(server, chosen.model)
        if not model:
            return 1
    with server_for(chosen.server) as running:
        return _talk(chosen, running, model)


def chat(chosen: argparse.Namespace) -> int:
    """Chat with a model of the running server."""
    server = Server(chosen.server)
    model = chosen.model or default_model(server)
    return _talk(chosen, server, model)


def _download(server: Server, name: str) -> str:
    """Download a model to where it will be served; returns its id, empty if that is not wanted."""
    if server.runs():
        return fetch_there(server, name)
    done = fetch(name)
    return "" if done is None else done.model


def _known(server: Server, name: str) -> str:
    """The id of the model that the server has, or would have, under this name; empty: none."""
    if server.runs():
        found = server.model(name)
        return "" if found is None else str(found["id"])
    return next((model.id for model in here() if same_model_id(model.id, name)), "")


def default_model(server: Server) -> str:
    """The id of the chat model that answers where none is named."""
    models = server.get("/v1/models")["data"]
    ids = [one["id"] for one in models if one["is_default"] and one["capability"] == "chat"]
    if not ids:
        raise CommandError("the server has no default model", ["name one: y26hkx ls lists them"])
    return str(ids[0])


def _talk(chosen: argparse.Namespace, server: Server, model: str) -> int:
    options = {"max_tokens": chosen.max_tokens, "temperature": chosen.temperature}
    options = {name: value for name, value in options.items() if value is not None}
    conversation = Conversation(server, model, chosen.system or "", options)
    asked = " ".join(chosen.prompt)
    if not sys.stdin.isatty():
        # What is piped in belongs to the question, or is the question.
        asked = "\n\n".join(filter(None, (asked, sys.stdin.read().strip())))
    if asked:
        spoken = conversation.ask(asked, _silent if chosen.json else _print_piece)
        _report(chosen, spoken)
        return 1 if spoken.problem else 0
    if chosen.json:
        raise CommandError("--json needs a prompt")
    _converse(chosen, conversation)
    return 0


def _converse(chosen: argparse.Namespace, conversation: Conversation) -> None:
    write(f"{conversation.model}; /help for the commands")
    prompt, files = Prompt(), ""
    while True:
        try:
            text = prompt.read()
            if text is None or text.split()[:1] in (["/exit"], ["/bye"], ["/quit"]):
                return
            files = _turn(chosen, conversation, text, files)
        except KeyboardInterrupt:
            # Ctrl-C ends what runs at any moment, but not the conversation.
            write("")


def _turn(chosen: argparse.Namespace, conversation: Conversation, text: str, files: str) -> str:
    """Do what a line says; returns the text of files for the next message."""
    if text.startswith("/"):
        return files + _command(text, conversation)
    if not text.strip():
        return files
    try:
        spoken = conversation.ask(files + text, _print_piece)
    except CommandError as error:
        write("\n".join([f"error: {error}", *(f"  {one}" for one in error.suggestions)]))
        return files
    _report(chosen, spoken)
    return ""


def _command(text: str, conversation: Conversation) -> str:
    """Do what a line with a slash says; returns the text of a file for the next message."""
    name, _, rest = text.partition(" ")
    rest = rest.strip()
    if name == "/model":
        conversation.model = rest or conversation.model
        write(conversation.model)
    elif name == "/system":
        if rest:
            conversation.restart(rest)
        write(conversation.system or "(none)")
    elif name == "/clear":
        conversation.restart(conversation.system)
    elif name == "/file":
        return _file(rest)
    else:
        write(HELP)
    return ""


def _file(name: str) -> str:
    try:
        with open(name, "rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            write(f"{name} is larger than 1 MiB")
            return ""
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        write(f"{name} cannot be read as text: {error}")
        return ""
    write(f"{name}: {len(text):,} characters go with the next message")
    return f"{name}:\n```\n{text}\n```\n\n"


def _report(chosen: argparse.Namespace, spoken: Spoken) -> None:
    """Print what there is to say about an answer."""
    if chosen.json:
        write_json(asdict(spoken))
        return
    write("")
    if spoken.problem:
        sys.stderr.write(f"the answer broke off: {spoken.problem}\n")
    if not sys.stdout.isatty():
        return
    notes = [f"{spoken.tokens_per_s:.1f} tokens/s"] if spoken.tokens_per_s else []
    if spoken.was_stopped:
        notes.append("stopped")
    if spoken.trimmed_tokens:
        notes.append(f"the oldest {spoken.trimmed_tokens:,} tokens did not fit and were left out")
    if spoken.reduced:
        notes.append(f"loaded smaller: {spoken.reduced}")
    write(colored(f"[{'; '.join(notes)}]", "faint") if notes else "")


def _print_piece(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _silent(text: str) -> None:
    pass
