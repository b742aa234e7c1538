"""Which of a repository's variants is taken: the one that was named, else the largest that fits."""

import pytest

from common.errors import BackendLoadFailed, InvalidRequest
from downloads.settings import DownloadSettings
from tests.made_models import gguf
from tests.stand_in_hub import Repository, StandInHub
from tests.unit.downloads.pulls import CHAT, GGUF, MIB, plan_of, run


def test_a_repository_that_lacks_a_part_offers_no_such_model(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m-Q8_0-00001-of-00002.gguf": GGUF})
    with pytest.raises(InvalidRequest, match="neither GGUF files nor safetensors"):
        run("org/m", settings)


def test_the_largest_variant_that_fits_is_chosen_and_whole_weights_are_not(
    hub: StandInHub, settings: DownloadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"Q2_K": 1, "Q4_K_M": 2, "Q8_0": 30, "F16": 31}
    files = {f"m-{name}.gguf": GGUF + bytes(size * MIB) for name, size in sizes.items()}
    hub.hugging_face["org/m"] = Repository(files)
    assert plan_of("org/m", settings).variant == "Q8_0"
    all_fits = plan_of("org/m", settings).fits
    assert [fit.variant for fit in all_fits] == ["Q2_K", "Q4_K_M", "Q8_0", "F16"]
    assert all(fit.slots == 4 and fit.context_tokens == 512 for fit in all_fits)
    # A limit between the third and the second.
    monkeypatch.setenv("LOAD_LADDER", "0")
    limit = (all_fits[1].need_bytes + all_fits[2].need_bytes) / 2 / (1 << 30)
    monkeypatch.setenv("MODEL_MEMORY_LIMIT_GB", str(limit))
    smaller = plan_of("org/m", settings)
    assert smaller.variant == "Q4_K_M"
    assert [fit.verdict for fit in smaller.fits] == ["fits", "fits", *["does_not_fit"] * 2]
    monkeypatch.setenv("MODEL_MEMORY_LIMIT_GB", "0.001")
    with pytest.raises(BackendLoadFailed, match="the smallest, Q2_K"):
        run("org/m", settings)
    assert plan_of("org/m", settings, force=True).variant == "Q2_K"


def test_of_different_models_in_one_repository_each_has_its_own_estimate(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    large = gguf(CHAT | {"qwen2.block_count": 64, "qwen2.embedding_length": 8192})
    hub.hugging_face["org/both"] = Repository(
        {"small-Q4_0.gguf": GGUF + bytes(MIB), "large-Q8_0.gguf": large}
    )
    needs = {fit.variant: fit.need_bytes for fit in plan_of("org/both", settings).fits}
    assert needs["Q8_0"] > 2 * needs["Q4_0"]
    hub.hugging_face["org/many"] = Repository({f"m{n}x-Q4_0.gguf": GGUF for n in range(9)})
    with pytest.raises(InvalidRequest, match="many models"):
        run("org/many", settings)
    assert plan_of("hf.co/org/many/m3x-Q4_0.gguf", settings).model == "m3x-Q4_0"


def test_an_unknown_variant_is_refused_with_those_that_there_are(
    hub: StandInHub, settings: DownloadSettings
) -> None:
    hub.hugging_face["org/m"] = Repository({"m-Q4_K_M.gguf": GGUF, "m-Q8_0.gguf": GGUF})
    with pytest.raises(InvalidRequest, match="there are: Q4_K_M, Q8_0"):
        run("org/m:Q5_K_M", settings)
