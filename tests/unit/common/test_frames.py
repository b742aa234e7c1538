"""Frames arrive whole, in any pieces."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.frames import FrameSplitter


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_chunking(payloads: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(struct.pack("<I", len(p)) + p for p in payloads)
    splitter, at = FrameSplitter(), 0
    seen: list[bytes] = []
    for i in range(len(stream)):
        size = sizes[i % len(sizes)]
        seen += splitter.feed(stream[at : at + size])
        at += size
    assert seen == payloads


def test_a_frame_of_impossible_length_is_refused() -> None:
    with pytest.raises(ValueError, match="frame of"):
        list(FrameSplitter().feed(b"\xff\xff\xff\xff"))
