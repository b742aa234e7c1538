"""Token bytes to text, one token at a time; the text does not depend on the chunking."""

import codecs


class Detokenizer:
    """Assembles UTF-8 from pieces that may end in the middle of a character.

    >>> one = Detokenizer()
    >>> one.push(b"caf\\xc3"), one.push(b"\\xa9"), one.flush()
    ('caf', 'é', '')
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, piece: bytes) -> str:
        """The characters that `piece` completes."""
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """The rest: a replacement character if the last character is incomplete."""
        return self._decoder.decode(b"", final=True)
