"""Bundled files, held in memory: no request ever touches the file system."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Final

import attrs
from quart import Response, abort, request

from chatmail.adapters.http.replies import DAY_CACHE, answer

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
}
MIN_GZIP_OCTETS: Final = 1024


@attrs.frozen
class StaticFile:
    """One bundled file; `packed` is its gzip form when that is worth sending."""

    content: bytes
    packed: bytes | None
    content_type: str
    etag: str


class StaticFiles:
    """The bundled files by path below the root."""

    def __init__(self) -> None:
        self._files = {path.name: _load(path) for path in sorted(_FOLDER.iterdir())}

    @property
    def names(self) -> list[str]:
        """Return the file names."""
        return list(self._files)

    def url(self, name: str) -> str:
        """Return the path of a file with a mark that changes with its content."""
        return f"/{name}?v={self._files[name].etag[:8]}"

    async def send(self, name: str) -> Response:
        """Answer with a file, or 304 when the browser has it (RFC 9110 §13.1.2)."""
        file = self._files.get(name)
        if file is None:
            abort(404)
        if f'"{file.etag}"' in request.headers.get("If-None-Match", ""):
            response = answer(b"", file.content_type, status=304, cache=DAY_CACHE)
        elif file.packed and "gzip" in request.headers.get("Accept-Encoding", ""):
            response = answer(file.packed, file.content_type, cache=DAY_CACHE)
            response.headers["Content-Encoding"] = "gzip"
        else:
            response = answer(file.content, file.content_type, cache=DAY_CACHE)
        response.headers["ETag"] = f'"{file.etag}"'
        if file.packed:
            response.headers["Vary"] = "Accept-Encoding"
        return response


def _load(path: Path) -> StaticFile:
    content = path.read_bytes()
    is_worth = len(content) >= MIN_GZIP_OCTETS and path.suffix != ".ico"
    return StaticFile(
        content=content,
        packed=gzip.compress(content, mtime=0) if is_worth else None,
        content_type=_TYPES[path.suffix],
        etag=hashlib.sha256(content).hexdigest()[:32],
    )
