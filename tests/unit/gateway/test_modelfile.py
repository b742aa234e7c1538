"""A Modelfile's instructions become the fields of a create request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from gateway.translate.ollama.modelfile import fields_of


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("FROM a", {"from": "a"}),
        ('from "a b"\n', {"from": "a b"}),
        ("FROM a\nSYSTEM Be brief.", {"from": "a", "system": "Be brief."}),
        ('FROM a\nSYSTEM """\nBe\nbrief."""', {"from": "a", "system": "\nBe\nbrief."}),
        ('FROM a\nSYSTEM """Be""" brief', {"from": "a", "system": "Be"}),
        ("# FROM b\n\nFROM a\nREQUIRES 0.14", {"from": "a"}),
        (
            'PARAMETER top_k 4\nPARAMETER top_p 0.5\nPARAMETER use_mmap false\nPARAMETER seed "7"',
            {"parameters": {"top_k": 4, "top_p": 0.5, "use_mmap": False, "seed": 7}},
        ),
        ('PARAMETER stop "<|a|>"\nPARAMETER stop 5', {"parameters": {"stop": ["<|a|>", "5"]}}),
        (r'PARAMETER stop "\n\""', {"parameters": {"stop": ['\n"']}}),
        (r'PARAMETER stop "\q"', {"parameters": {"stop": [r"\q"]}}),
        (r'FROM "C:\new\a.gguf"', {"from": r"C:\new\a.gguf"}),
        (
            'MESSAGE user Who?\nMESSAGE assistant """Me.\nOr not."""',
            {
                "messages": [
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "Me.\nOr not."},
                ]
            },
        ),
        ("LICENSE MIT\nLICENSE Apache", {"license": ["MIT", "Apache"]}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_instruction_becomes_a_field(text: str, fields: dict[str, object]) -> None:
    assert fields_of(text) == fields


@pytest.mark.parametrize(
    "text", ["ADAPTER ./lora.gguf", "FRMO a", 'SYSTEM """a', "FROM a\n" * 1025]
)
def test_what_is_no_modelfile_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        fields_of(text)
    assert refused.value.param == "modelfile"


@given(
    st.lists(
        st.sampled_from(
            ["FROM", "PARAMETER", "SYSTEM", "MESSAGE", "LICENSE", '"""', '"', "stop", "\n"]
        )
        | st.text(max_size=6),
        max_size=30,
    ).map(" ".join)
)
def test_no_text_is_anything_else_than_read_or_refused(text: str) -> None:
    try:
        found = fields_of(text)
    except InvalidRequest:
        return
    assert found.keys() <= {"from", "system", "template", "parameters", "messages", "license"}
