"""The commands for people, as processes of their own, with a hub and a running server."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running_stack import (
    GUIDE,
    KEPT_VARIABLES,
    MINILM,
    ROOT,
    RunningStack,
    free_port,
    wait_until,
)
from tests.stand_in_hub import Repository, StandInHub, stand_in_hub

GUIDE_FILE = ROOT / "models" / "guide" / f"{GUIDE}.gguf"
WITHIN_S = 120
HAS_ARROW = importlib.util.find_spec("pyarrow") is not None


@pytest.fixture(scope="module")
def hub() -> Iterator[StandInHub]:
    with stand_in_hub() as running:
        content = GUIDE_FILE.read_bytes()
        running.hugging_face["org/own"] = Repository(
            {
                "own-Q8_0.gguf": content,
                "own-Q4_K_M.gguf": content + bytes(64),
                "mmproj.gguf": content,
            }
        )
        running.hugging_face["org/new"] = Repository({"new-Q8_0.gguf": content})
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("commands")
    (found / "models").mkdir()
    return found


@pytest.fixture(scope="module")
def environment(hub: StandInHub, folder: Path) -> dict[str, str]:
    return hub.environment | {
        "MODELS_DIR": str(folder / "models"),
        "MEMORY_LEARNT_DIR": str(folder),
        "PYTHONUTF8": "1",
    }


@pytest.fixture(scope="module")
def stack(folder: Path, environment: dict[str, str]) -> Iterator[RunningStack]:
    with RunningStack(folder / "log", **environment) as running:
        yield running


class Command:
    """Runs `y26hkx` with the port of a server."""

    def __init__(self, environment: dict[str, str], port: int) -> None:
        kept = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES}  # noqa: TID251 - the test is the outermost caller
        self.environment = kept | environment | {"GATEWAY_PORT": str(port)}

    def __call__(
        self, *arguments: str, status: int = 0, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, status: int = 0) -> Any:
        written = self(*arguments, "--json", status=status).stdout
        # A download writes a line for each event.
        return json.loads(written.splitlines()[-1] if arguments[0] == "pull" else written)


@pytest.fixture
def command(stack: RunningStack, environment: dict[str, str]) -> Command:
    return Command(environment, stack.port)


@pytest.fixture
def alone(environment: dict[str, str]) -> Command:
    """Where no server runs."""
    return Command(environment, free_port())


def test_pull_shows_what_fits_and_the_server_has_the_model_at_once(command: Command) -> None:
    plan = command("pull", "--plan", "org/own").stdout
    assert all(word in plan for word in ("Q8_0", "Q4_K_M", "fits", "left out: mmproj.gguf"))
    done = command("pull", "org/own:Q8_0").stdout
    assert "own-Q8_0 is there" in done
    assert "there already" in command("pull", "org/own:Q8_0").stdout
    said = command.json("run", "own-Q8_0", "hi", "--max-tokens", "5")
    assert (said["model"], said["completion_tokens"]) == ("own-Q8_0", 5)
    listed = {model["id"]: model for model in command.json("ls")}
    assert listed["own-Q8_0"]["verdict"] == "fits"
    assert listed["own-Q8_0"]["quantization"]
    assert "own-Q8_0" in command("ps").stdout
    assert command.json("show", "own-Q8_0")["state"] == "ready"
    command("unload", "own-Q8_0")
    assert "own-Q8_0" in command("load", "own-Q8_0", "--keep-alive", "5m").stdout
    assert command.json("rm", "own-Q8_0")["removed"] == ["own-Q8_0.gguf"]
    assert "own-Q8_0" not in command("ls").stdout


def test_run_downloads_starts_a_server_and_ends_it(alone: Command) -> None:
    done = alone("run", "org/new", "How do I read the metrics?")
    assert "GET /metrics" in done.stdout
    assert "no server answers" in alone("ps", status=1).stderr
    assert alone.json("rm", "new-Q8_0")["removed"] == ["new-Q8_0.gguf"]


def test_run_lets_a_server_that_runs_download_into_its_own_folder(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    command.environment = command.environment | {"MODELS_DIR": str(tmp_path)}
    said = command.json("run", "org/new", "How do I read the metrics?")
    assert "GET /metrics" in said["text"]
    assert (folder / "models" / "new-Q8_0.gguf").exists()
    assert list(tmp_path.iterdir()) == []
    assert command.json("rm", "new-Q8_0")["removed"] == ["new-Q8_0.gguf"]


def test_chat_takes_what_is_piped_in_and_keeps_the_conversation_apart(command: Command) -> None:
    assert command("chat", "--max-tokens", "4", stdin="hi").stdout.strip()
    done = command("chat", "--model", "nobody", "hi", status=1)
    assert "nobody" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl"])
def test_embed_writes_a_vector_for_each_line(
    command: Command, stack: RunningStack, tmp_path: Path, name: str
) -> None:
    texts = [f"text {n}" for n in range(70)]
    (tmp_path / "texts").write_text("\n".join(["", *texts]), "utf-8")
    output = tmp_path / name
    said = command.json("embed", str(tmp_path / "texts"), "-o", str(output), "--batch", "32")
    assert said == {"output": str(output), "texts": 70, "dimension": 384}
    if name.endswith("npy"):
        import numpy

        vectors = numpy.load(output).tolist()
    else:
        rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
        assert [row["text"] for row in rows] == texts
        vectors = [row["embedding"] for row in rows]
    reply = stack.openai().embeddings.create(model=MINILM, input=texts[-1])
    assert vectors[-1] == pytest.approx(reply.data[0].embedding, abs=0.01)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull", "../../etc"], "does not name a model"),
        (["pull", "org/unknown"], "no model org/unknown"),
        (["run", "unknown"], "there is no model 'unknown' here"),
        (["show", "unknown"], "there is no model 'unknown' here"),
        (["load", "unknown"], "does not exist"),
        (["rm", GUIDE], "is built in and is not deleted"),
        (["embed", "/nowhere", "-o", "x.npy"], "cannot be read"),
        (["embed", str(GUIDE_FILE), "-o", "x.txt"], "ends neither in"),
        pytest.param(
            ["embed", str(ROOT / "LICENSE"), "-o", "x.parquet"],
            "pip install",
            marks=pytest.mark.skipif(HAS_ARROW, reason="pyarrow is here"),
        ),
    ],
)
def test_a_failure_is_one_sentence_or_json(
    command: Command, arguments: list[str], words: str
) -> None:
    done = command(*arguments, status=1)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert words in command.json(*arguments, status=1)["error"]["message"]


def test_an_alias_is_served_and_the_rest_of_the_file_stays(
    command: Command, stack: RunningStack, folder: Path
) -> None:
    file = folder / "models" / "models.toml"
    file.write_text(f'# Mine.\n[models."{GUIDE}"] # the guide\npriority = 1 # first\n')
    assert command.json("alias", "gpt-4o", GUIDE.upper()) == {"gpt-4o": GUIDE}
    assert "# the guide\npriority = 1 # first\n" in file.read_text("utf-8")
    wait_until(("gpt-4o" in stack.models() for _ in iter(int, 1)), 30, "it is served")
    assert command.json("chat", "--model", "gpt-4o", "hi", "--max-tokens", "3")["model"] == GUIDE
    assert "is the id of a model" in command("alias", MINILM, GUIDE, status=1).stderr
    assert "there is no model" in command("alias", "x", "nobody", status=1).stderr
    assert command.json("alias", "--remove", "GPT-4O") == {}
    assert file.read_text("utf-8").startswith("# Mine.\n")
    file.write_text("[models")
    assert "cannot be changed" in command("alias", "x", GUIDE, status=1).stderr
    assert file.read_text("utf-8") == "[models"
    file.unlink()


def test_logs_shows_what_the_server_printed(command: Command) -> None:
    assert "ready in" in command("logs", "-n", "500").stdout
    assert Path(command.json("logs")["file"]).is_file()


def test_bench_keeps_what_it_measured(command: Command) -> None:
    first = command.json("bench", GUIDE, "--no-peers")
    assert first["now"]["answer_tokens_per_s"] > 0
    again = command.json("bench", "--no-peers")
    assert again["before"] == [first["now"]]
    assert again["now"]["prompt_tokens_per_s"] > 0


@pytest.mark.parametrize("client", ["codex", "opencode", "qwen-code", "aider"])
def test_launch_gives_a_client_the_server_the_model_and_its_context(
    command: Command, client: str
) -> None:
    said = json.loads(command("launch", client, "--json", "--", "--own", "argument").stdout)
    everything = json.dumps(said)
    assert said["command"][-2:] == ["--own", "argument"]
    assert all(part in everything for part in (f":{command.environment['GATEWAY_PORT']}/v1", GUIDE))


def test_a_client_that_is_not_installed_is_said_with_how(command: Command) -> None:
    command.environment = command.environment | {"PATH": ""}
    done = command("launch", "codex", status=1)
    assert "codex is not installed" in done.stderr
    assert "npm install -g @openai/codex" in done.stderr


def test_stop_ends_the_server_that_was_started_here(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with RunningStack(
        tmp_path / "log", **environment | {"MEMORY_LEARNT_DIR": str(tmp_path)}
    ) as one:
        own = Command(environment | {"MEMORY_LEARNT_DIR": str(tmp_path)}, one.port)
        assert own.json("stop")["port"] == one.port
        assert "no server answers" in own("ps", status=1).stderr
        assert "no server to stop" in own("stop", status=1).stderr


def test_stop_never_ends_a_process_that_only_has_the_number(alone: Command, folder: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        port = alone.environment["GATEWAY_PORT"]
        record = {"pid": bystander.pid, "port": int(port), "at_s": 0}
        (folder / f"serves-on-{port}.json").write_text(json.dumps(record), "utf-8")
        assert "no server to stop" in alone("stop", status=1).stderr
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of this kind is POSIX'")
def test_a_terminal_keeps_a_conversation_and_ctrl_c_stops_an_answer(command: Command) -> None:
    import pty

    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "chat", "--model", GUIDE],
        cwd=ROOT,
        env=command.environment | {"TERM": "dumb"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)

    def read_until(word: bytes) -> bytes:
        seen = b""
        while word not in seen:
            seen += os.read(controller, 4096)
        return seen

    try:
        read_until(b">>> ")
        os.write(controller, b"/model\r")
        read_until(GUIDE.encode())
        os.write(controller, b"How do I read the metrics?\r")
        read_until(b"/metrics")
        os.write(controller, b"/system Be brief.\r")
        read_until(b"Be brief.")
        process.send_signal(signal.SIGINT)
        os.write(controller, b"/help\r")
        read_until(b"/clear")
        os.write(controller, b"/exit\r")
        read_until(b"/exit")
        while process.poll() is None:
            try:
                os.read(controller, 4096)
            except OSError:
                break
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)
