"""The built files of the console, as responses.

They are read once, at the start, and each is served under its one path: no path of a request ever
reaches the file system, and an update on disk never mixes two versions of the page.
"""

import gzip
import hashlib
from functools import cached_property
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response

from gateway.middleware.compression import accepts_gzip

BUILT = Path(__file__).parent / "built"
PAGE = "/"
# Where the page expects everything else; `console/vite.config.ts` has the same.
FOLDER = "/console/"
# Files in here have a hash of their content in their name.
HASHED = f"{FOLDER}assets/"

# Scripts, styles and connections of this server only. `trusted-types` lets a browser refuse any
# HTML that DOMPurify has not cleaned, wherever the page's code would put it.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
_SAFE = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
# Not the system's list of types: on Windows any program may change it.
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".md": "text/markdown",
}


class _File:
    def __init__(self, path: Path) -> None:
        self.plain = path.read_bytes()
        self.type = _TYPES.get(path.suffix, "application/octet-stream")
        # A weak tag: it is the same for both encodings.
        self.etag = f'W/"{hashlib.sha256(self.plain).hexdigest()[:32]}"'

    @cached_property
    def zipped(self) -> bytes:
        return gzip.compress(self.plain, mtime=0)


class ConsoleFiles:
    """Args:
    folder: has the built page, `index.html`, and what belongs to it; or nothing.
    """

    def __init__(self, folder: Path = BUILT) -> None:
        self._files = {
            FOLDER + path.relative_to(folder).as_posix(): _File(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        if page := self._files.pop(f"{FOLDER}index.html", None):
            self._files[PAGE] = page

    @property
    def paths(self) -> list[str]:
        return list(self._files)

    def has(self, path: str) -> bool:
        return path in self._files

    def response(self, path: str, asked: Headers) -> Response:
        """The file at `path`, which must be there.

        Args:
            asked: the headers of the request.
        """
        file = self._files[path]
        headers = _SAFE | {
            "etag": file.etag,
            "cache-control": _FOR_EVER if path.startswith(HASHED) else _ASK_AGAIN,
            # Who asks for no page gets the API's answer at the page's path.
            "vary": "Accept, Accept-Encoding" if path == PAGE else "Accept-Encoding",
        }
        if file.etag in asked.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        body = file.plain
        if accepts_gzip(asked.get("accept-encoding", "")):
            body = file.zipped
            headers["content-encoding"] = "gzip"
        return Response(body, headers=headers, media_type=file.type)
