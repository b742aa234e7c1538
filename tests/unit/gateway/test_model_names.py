"""Which model is meant by what clients call it."""

import pytest

from common.model_ids import folded_id
from gateway.model_names import ModelNames

KNOWN = {folded_id(name) for name in ("qwen", "org/llama", "Phi-4", "tagged:latest")}


def is_known(name: str) -> bool:
    return folded_id(name) in KNOWN


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("qwen", "qwen"),
        ("QWEN", "QWEN"),
        ("qwen:latest", "qwen"),
        ("qwen.gguf", "qwen"),
        ("qwen.GGUF:latest", "qwen"),
        ("Qwen/qwen", "qwen"),
        ("hf.co/Qwen/qwen.gguf", "qwen"),
        ("org/llama:latest", "org/llama"),
        ("tagged:latest", "tagged:latest"),
        ("gpt-4o", "qwen"),
        ("GPT-4o:latest", "qwen"),
        ("claude", "org/llama"),
        ("lost", "nowhere"),
        ("other", "other"),
        ("qwen:7b", "qwen:7b"),
        ("/", "/"),
        (":latest", ":latest"),
        ("", ""),
    ],
)
def test_a_name_means_the_model_that_somebody_has(name: str, meant: str) -> None:
    aliases = {"gpt-4o": "qwen.gguf", "claude": "org/llama", "lost": "nowhere", "qwen": "Phi-4"}
    names = ModelNames(aliases, falls_back=False)
    assert names.meant(name, lambda each: each == "" or is_known(each)) == meant


def test_an_unknown_name_means_the_default_model_where_that_is_set() -> None:
    names = ModelNames({}, falls_back=True)
    assert names.meant("other", is_known) == ""
    assert names.meant("qwen:latest", is_known) == "qwen"
    assert names.known("other", is_known) is None
