"""`y26hkx bench`: how fast a model reads and answers here, beside its own past and beside an
Ollama or llama-server that runs on this machine.

All are asked the same, one request at a time; the servers' own times count, so that neither this
program nor the network is measured.
"""

import argparse
import random
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from cli.commands.chat import default_model
from cli.commands.failure import CommandError
from cli.commands.kept_speeds import FILE, Speed, keep, kept
from cli.commands.local_server import server_for
from cli.commands.printing import table, write, write_json
from cli.commands.progress import Progress
from cli.settings import StackSettings
from common.model_ids import same_model_id
from common.packages import version_of

SHOWN = 5
N_ROUNDS = 3
PROMPT_WORDS = 200
ANSWER_TOKENS = 64
PEER_WITHIN_S = 2.0
NS = 1e9
OLLAMA, LLAMA_SERVER = "http://127.0.0.1:11434", "http://127.0.0.1:8080"
LATEST = ":latest"


# Returns tokens and seconds of the prompt, then of the answer.
Ask = Callable[[str], tuple[float, float, float, float]]


def bench(chosen: argparse.Namespace) -> int:
    """Measure, print the result beside earlier ones and peers, and keep it."""
    file = StackSettings.read({}).own_folder / FILE
    with server_for(chosen.server) as server, Progress() as progress:
        model = str((server.model(chosen.model or default_model(server)) or {}).get("id", ""))
        if not model:
            raise CommandError(f"there is no model {chosen.model!r}", ["y26hkx ls lists them"])
        server.post("/v1/models/load", {"model": model})

        def show(n: int) -> None:
            if not chosen.json:
                progress.show("measuring", n, N_ROUNDS, of_bytes=False)

        version = version_of("y26hkx", missing="")
        now = _measured("y26hkx", version, model, _as_ollama(server.post, model), show)
    before = [speed for speed in kept(file) if same_model_id(speed.model, model)]
    keep(file, now)
    peers = [] if chosen.no_peers else list(_peers(model))
    if chosen.json:
        past = [asdict(speed) for speed in before]
        write_json({"now": asdict(now), "before": past, "peers": [asdict(p) for p in peers]})
        return 0
    rows = [("now", now), *((_day(one.at_s), one) for one in reversed(before[-SHOWN:]))]
    rows += [("beside it", peer) for peer in peers]
    table(
        ["", "server", "model", "prompt tokens/s", "answer tokens/s"],
        [
            [
                when,
                f"{one.server} {one.version}".strip(),
                one.model,
                f"{one.prompt_tokens_per_s:,.1f}",
                f"{one.answer_tokens_per_s:,.1f}",
            ]
            for when, one in rows
        ],
    )
    if not peers and not chosen.no_peers:
        write("no Ollama or llama-server with this model runs beside it")
    return 0


def _measured(
    server: str, version: str, model: str, ask: Ask, on_round: Callable[[int], None]
) -> Speed:
    rounds = []
    for n in range(N_ROUNDS):
        rounds.append(ask(_prompt()))
        on_round(n + 1)
    reading = max(tokens / max(seconds, 1e-6) for tokens, seconds, _, _ in rounds)
    answering = max(tokens / max(seconds, 1e-6) for _, _, tokens, seconds in rounds)
    return Speed(server, version, model, time.time(), round(reading, 1), round(answering, 1))


def _prompt() -> str:
    """Words that no cache has seen."""
    words = ("".join(random.choices(string.ascii_lowercase, k=5)) for _ in range(PROMPT_WORDS))
    return " ".join(words)


def _as_ollama(post: Callable[[str, dict[str, Any]], Any], model: str) -> Ask:
    """Ollama's API, which this server has, too, and which tells times."""

    def ask(prompt: str) -> tuple[float, float, float, float]:
        options = {"num_predict": ANSWER_TOKENS, "temperature": 1}
        body = {"model": model, "prompt": prompt, "raw": True, "stream": False, "options": options}
        told = post("/api/generate", body)
        return (
            told.get("prompt_eval_count", 0),
            told.get("prompt_eval_duration", 0) / NS,
            # The first token comes with the prompt.
            max(told.get("eval_count", 0) - 1, 0),
            told.get("eval_duration", 0) / NS,
        )

    return ask


def _peers(model: str) -> Iterator[Speed]:
    """Peers that run here and have a model of that name; others are left out."""
    for find in (_ollama, _llama_server):
        try:
            if (found := find(model)) is not None:
                yield found
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            # It is not there, or it is something else.
            continue


def _ollama(model: str) -> Speed | None:
    address = StackSettings.read({}).values.get("OLLAMA_HOST") or OLLAMA
    address = address if "//" in address else f"http://{address}"
    with httpx.Client(base_url=address, timeout=PEER_WITHIN_S, trust_env=False) as http:
        version = http.get("/api/version").json()
        if "y26hkx" in version:
            return None
        names = [str(one["name"]) for one in http.get("/api/tags").json()["models"]]
        named = [
            name
            for name in names
            if same_model_id(_bare(name), _bare(model))
            or same_model_id(name.replace(":", "-"), model)
        ]
        if not named:
            return None
        ask = _as_ollama(lambda path, body: _post(http, path, body), named[0])
        return _measured("ollama", version["version"], named[0], ask, lambda _: None)


def _llama_server(model: str) -> Speed | None:
    with httpx.Client(base_url=LLAMA_SERVER, timeout=PEER_WITHIN_S, trust_env=False) as http:
        about = http.get("/props").json()
        served = Path(about["model_path"]).stem
        if not same_model_id(served, model):
            return None

        def ask(prompt: str) -> tuple[float, float, float, float]:
            body = {"prompt": prompt, "n_predict": ANSWER_TOKENS, "cache_prompt": False}
            told = _post(http, "/completion", body)["timings"]
            reading = told["prompt_n"], told["prompt_ms"] / 1000
            return *reading, told["predicted_n"] - 1, told["predicted_ms"] / 1000

        version = str(about.get("build_info", ""))
        return _measured("llama-server", version, served, ask, lambda _: None)


def _post(http: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    return http.post(path, json=body, timeout=None).raise_for_status().json()


def _bare(name: str) -> str:
    return name.removesuffix(LATEST)


def _day(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
