"""The remote engine as a process: its loads and its key, and servers that are silent or gone."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chat_worker.remote.spec import RemoteModel, RemoteSpec
from tests.unit.chat_worker.engine_pipe import EnginePipe
from tests.unit.chat_worker.remote.remote_engine import MODULE, failure, spec
from tests.unit.chat_worker.remote.scripted_upstream import ScriptedUpstream, said, sse
from worker_runtime.engine_process import protocol


def test_silence_ends_with_a_timeout(upstream: ScriptedUpstream) -> None:
    with EnginePipe(MODULE) as engine:
        engine.load_spec(spec(upstream, timeout_s=0.2))
        upstream.play(body=sse(said("half"), done=False), stay_silent=True)
        assert failure(engine).code == "timeout"


def test_a_server_that_has_gone_away_is_reported_as_not_ready() -> None:
    with ScriptedUpstream() as upstream, EnginePipe(MODULE) as engine:
        engine.load_spec(spec(upstream))
        upstream.__exit__(None, None, None)
        error = failure(engine)
        assert (error.code, error.retry_after_s) == ("not_ready", 5)


def test_a_server_that_is_not_there_fails_the_load_with_a_way_out() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with EnginePipe(MODULE) as engine:
            report = engine.load_spec(RemoteSpec(model=RemoteModel(id="far", base_url=url)))
    assert isinstance(report, protocol.LoadFailed)
    assert report.error.code == "BACKEND_LOAD_FAILED"
    assert "base_url" in report.error.suggestions[0]


@pytest.mark.parametrize(("status", "way_out"), [(401, "key"), (404, "/v1")])
def test_a_server_that_lists_no_models_fails_the_load(
    upstream: ScriptedUpstream, status: int, way_out: str
) -> None:
    upstream.play(models_status=status)
    with EnginePipe(MODULE) as engine:
        report = engine.load_spec(spec(upstream))
    assert isinstance(report, protocol.LoadFailed)
    assert way_out in report.error.suggestions[0]
    assert "secret" not in str(report.error)


def test_a_key_comes_from_its_file_and_a_bad_one_fails_the_load(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.play()
    (tmp_path / "key").write_text("sk-of-file\n")
    with EnginePipe(MODULE) as engine:
        engine.load_spec(spec(upstream, api_key="", api_key_file=str(tmp_path / "key")))
    assert upstream.requests[-1][1]["authorization"] == "Bearer sk-of-file"
    for bad in (b"two\nlines", b"\xff"):
        (tmp_path / "key").write_bytes(bad)
        with EnginePipe(MODULE) as engine:
            report = engine.load_spec(
                spec(upstream, api_key="", api_key_file=str(tmp_path / "key"))
            )
        assert isinstance(report, protocol.LoadFailed)
        assert "key" in report.error.message


def test_the_process_imports_no_model_library() -> None:
    code = f"import {MODULE}, sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert not {"numpy", "jinja2", "llama_cpp", "torch", "grpc"} & set(printed.split())
