"""The names under which models are asked for."""

import pytest

from common.errors import InvalidRequest
from downloads.source import Hub, Source, parse

HF: Hub = "hugging_face"
SCOPE: Hub = "modelscope"
OLLAMA: Hub = "ollama"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("org/repo", Source(HF, "org/repo")),
        ("org/repo:Q4_K_M", Source(HF, "org/repo", "Q4_K_M")),
        (" hf.co/org/repo:Q4_K_M ", Source(HF, "org/repo", "Q4_K_M")),
        ("HuggingFace.co/org/repo", Source(HF, "org/repo")),
        ("https://huggingface.co/org/repo/", Source(HF, "org/repo")),
        ("https://huggingface.co/org/repo/tree/main", Source(HF, "org/repo")),
        ("hf.co/org/repo/file.gguf", Source(HF, "org/repo", file="file.gguf")),
        ("https://hf.co/org/repo/blob/main/Q4/a.gguf", Source(HF, "org/repo", file="Q4/a.gguf")),
        ("modelscope.cn/org/repo:q8_0", Source(SCOPE, "org/repo", "q8_0")),
        ("https://www.modelscope.cn/models/org/repo", Source(SCOPE, "org/repo")),
        ("ollama.com/library/qwen2.5:0.5b", Source(OLLAMA, "library/qwen2.5", "0.5b")),
        ("ollama.com/qwen3", Source(OLLAMA, "library/qwen3", "latest")),
        ("https://ollama.com/someone/model", Source(OLLAMA, "someone/model", "latest")),
        ("https://a.example/x/m.GGUF?y=1", Source("url", "https://a.example/x/m.GGUF?y=1")),
    ],
)
def test_every_form_of_a_name_is_understood(name: str, source: Source) -> None:
    assert parse(name) == source


@pytest.mark.parametrize(
    "name",
    [
        *("", "model", "/", "a/b/c", "../repo", "org/..", "org/../../etc", "org/re po", "-x/y:"),
        *("hf.co/org/repo/../x.gguf", "hf.co/org/repo/file.bin", "org/repo:Q4/../x", "file:///a"),
        *("https://a.example/x.bin", "https://user:word@a.example/x.gguf", "ollama.com/a/b/c"),
        *("ollama.com/library/x:..", "org/re\npo", "o" * 600, "https:///x.gguf", "org/\x00"),
    ],
)
def test_what_is_no_name_is_refused_with_the_forms(name: str) -> None:
    with pytest.raises(InvalidRequest, match="does not name a model") as refused:
        parse(name)
    assert "org/repo" in refused.value.suggestions[0]
