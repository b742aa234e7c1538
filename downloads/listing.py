"""The files of a repository, as a hub lists them."""

import msgspec

MAX_FILES = 10_000


class RemoteFile(msgspec.Struct, frozen=True):
    """A file to download.

    Args:
        path: its path in the repository, with slashes; not checked yet.
        address: from where it comes.
        sha256: of its content, in hexadecimal digits; empty if the hub states none.
        git_sha1: the id of its content in git; empty if the hub states none.
    """

    path: str
    size_bytes: int
    address: str
    sha256: str = ""
    git_sha1: str = ""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Listing(msgspec.Struct, frozen=True):
    """
    Args:
        title: the name of the repository, for messages.
        headers: to send with each request for one of its files.
    """

    title: str
    files: tuple[RemoteFile, ...]
    headers: dict[str, str] = {}
