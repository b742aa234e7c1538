"""Hubs that break off, stall, refuse in the middle or send nonsense: what is lost, what is said."""

import pytest

from common.errors import (
    DownloadFailed,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    RateLimited,
    ServingError,
)
from downloads.pull import pull
from downloads.settings import DownloadSettings
from downloads.transfer import PART_BYTES
from tests.stand_in_hub import Fault, Repository, StandInHub
from tests.unit.downloads.pulls import LARGE, MIB, models, run


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, PermissionDenied), (403, PermissionDenied), (404, ModelNotFound)],
)
def test_a_refusal_in_the_middle_has_its_reason(
    hub: StandInHub, settings: DownloadSettings, status: int, kind: type[ServingError]
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    hub.faults.append(Fault("/cdn/", "status", status))
    with pytest.raises(kind):
        run("org/m", settings)
    assert models(settings) == {}


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (500, DownloadFailed)])
def test_a_hub_that_is_busy_or_broken_is_said(
    hub: StandInHub, settings: DownloadSettings, status: int, kind: type[ServingError]
) -> None:
    hub.faults.append(Fault("/api/", "status", status))
    for name in ("org/m", "modelscope.cn/org/m"):
        with pytest.raises(kind):
            run(name, settings)


def test_connections_that_break_or_stall_or_fail_for_a_while_cost_only_their_rest(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    hub.faults += [
        Fault("/cdn/", "status", 500, times=2),
        Fault("/cdn/", "cut", 3 * MIB, times=4),
        Fault("/cdn/", "stall", 3 * MIB, times=2),
    ]
    run("org/m", settings)
    assert models(settings) == {"m.gguf": LARGE}


def test_a_server_without_ranges_sends_the_whole(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.files["/x/m.gguf"] = LARGE
    hub.faults.append(Fault("/x/", "whole"))
    run(f"{hub.address}/x/m.gguf", settings)
    assert models(settings) == {"m.gguf": LARGE}


def test_a_wrong_checksum_shows_nothing_and_the_next_download_is_whole(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    with pytest.raises(DownloadFailed, match="checksum"):
        run_with_faults(hub, settings, Fault("/cdn/", "wrong"))
    assert models(settings) == {}
    run("org/m", settings)
    assert models(settings) == {"m.gguf": LARGE}


def test_a_hub_that_goes_down_in_the_middle_loses_nothing(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m.gguf": LARGE})
    # The first part comes whole; afterwards the hub is down.
    down = Fault("/cdn/", "status", 503)
    with pytest.raises(DownloadFailed):
        run_with_faults(hub, settings, Fault("/cdn/", "cut", PART_BYTES, times=1), down)
    assert models(settings) == {}
    hub.seen.clear()
    run("org/m", settings)
    assert models(settings) == {"m.gguf": LARGE}
    (journal,) = [PART_BYTES * n for n in range(3)][:1]
    asked = {one.range.partition("-")[0] for one in hub.asked("/cdn/")}
    assert f"bytes={journal + PART_BYTES}" in asked


def run_with_faults(hub: StandInHub, settings: DownloadSettings, *faults: Fault) -> None:
    """Download org/m; what goes wrong begins after the plan is made."""

    def agree(_: object) -> bool:
        hub.faults += faults
        return True

    try:
        pull("org/m", settings, lambda event: None, agree=agree)
    finally:
        hub.faults.clear()


@pytest.mark.parametrize("reply", [b"", b"[]", b"{}", b"not json", b'{"siblings": 7}', b"[" * 9999])
def test_nonsense_from_a_hub_is_an_error_of_the_hub(
    hub: StandInHub, settings: DownloadSettings, reply: bytes
) -> None:
    hub.files["/nonsense"] = reply
    hub.faults.append(Fault("/api/", "away", target=f"{hub.address}/nonsense"))
    hub.faults.append(Fault("/v2/", "away", target=f"{hub.address}/nonsense"))
    for name in ("org/m", "modelscope.cn/org/m", "ollama.com/library/m"):
        with pytest.raises((DownloadFailed, InvalidRequest)):
            run(name, settings)
