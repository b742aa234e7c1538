"""What of a request gets into its trace, and that there is none without the setting."""

import subprocess
import sys

import pytest

from tests.contract.running_gateway import running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID
from tests.otlp_collector import collector

TEXT = "canary-text"
BODY = {"model": CHAT_ID, "messages": [{"role": "user", "content": TEXT}], "max_tokens": 2}


async def test_texts_are_in_traces_only_where_they_are_asked_for(worker: ScriptedWorker) -> None:
    for asked in (False, True):
        with collector() as collected:
            settings = {"otlp_endpoint": collected.url, "trace_texts": asked}
            async with running_gateway([worker], **settings) as gateway:
                reply = await gateway.http.post("/v1/chat/completions", json=BODY)
                assert reply.status_code == 200, reply.text
                await until(lambda: len(collected.spans) == 3)
        sent = b"".join(collected.bodies)
        assert (TEXT.encode() in sent) is asked
        assert (b"0 1 " in sent) is asked


@pytest.mark.parametrize(
    "header",
    ["", "x", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + "a" * 50, "é" * 300],
)
async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(
    worker: ScriptedWorker, header: str
) -> None:
    with collector() as collected:
        async with running_gateway([worker], otlp_endpoint=collected.url) as gateway:
            reply = await gateway.http.post(
                "/v1/embeddings",
                json={"model": EMBED_ID, "input": "a"},
                headers={b"traceparent": header.encode()},
            )
            assert reply.status_code == 200, reply.text
            await until(lambda: len(collected.spans) == 2)
    assert {span.trace_id for span in collected.spans} != {"0" * 32}
    sent = worker.calls[-1].metadata["traceparent"]
    assert sent.split("-")[1] in {span.trace_id for span in collected.spans}


async def test_a_ratio_of_none_traces_nothing(worker: ScriptedWorker) -> None:
    with collector() as collected:
        settings = {"otlp_endpoint": collected.url, "trace_sample_ratio": 0}
        async with running_gateway([worker], **settings) as gateway:
            reply = await gateway.http.post("/v1/chat/completions", json=BODY)
            assert reply.status_code == 200, reply.text
            flags = worker.calls[-1].metadata["traceparent"].split("-")[3]
            assert not int(flags, 16) & 1, "not sampled"
    assert not collected.bodies


async def test_a_collector_that_is_gone_harms_no_request(worker: ScriptedWorker) -> None:
    with collector() as collected:
        url = collected.url
    async with running_gateway([worker], otlp_endpoint=url) as gateway:
        reply = await gateway.http.post("/v1/chat/completions", json=BODY)
    assert reply.status_code == 200, reply.text


def test_without_the_setting_nothing_of_the_extra_is_imported() -> None:
    code = (
        "import sys, gateway.__main__, chat_worker.__main__, embed_worker.__main__\n"
        "from gateway.app import create_app\n"
        "from gateway.settings import GatewaySettings\n"
        "create_app(GatewaySettings(_env_file=None))\n"
        # FastAPI imports the interface, which does nothing by itself.
        "parts = tuple(f'opentelemetry.{part}' for part in ('sdk', 'exporter', 'proto'))\n"
        "print([name for name in sys.modules if name.startswith(parts)])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]", found.stdout
