"""An upload (the GraphQL multipart request specification): a strict reader, and the parts written anew.

`operations`, then `map`, then each file that `map` names, once, for one variable that is null. What the upstream is
sent has a boundary and part headers of our own, so no reader of it can find other parts than were found here (G27).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, final

import orjson

from gateway.core.graphql.request import invalid, not_object, strict_json
from gateway.core.reasons import Reason, Refusal

MAX_FILES: Final = 64
MAX_PART_HEAD_BYTES: Final = 2048
MEDIA_TYPE: Final = b"multipart/form-data"

_BOUNDARY: Final = re.compile(rb'[ \t]*boundary=(?:"([0-9A-Za-z\'+_,./:=?-]{1,70})"|([0-9A-Za-z\'+_.-]{1,70}))')
_DISPOSITION: Final = re.compile(
    r'form-data; ?name="([^"\\\x00-\x1f\x7f]{1,128})"(?:; ?filename="([^"\\/\x00-\x1f\x7f]{1,255})")?', re.IGNORECASE
)
_PART_TYPE: Final = re.compile(
    r"[0-9A-Za-z!#$&^_.+-]{1,64}/[0-9A-Za-z!#$&^_.+-]{1,64}(?:; ?[0-9A-Za-z-]{1,32}=[0-9A-Za-z._-]{1,64}){0,2}"
)
_CODINGS: Final = ("binary", "8bit", "7bit")
_FILE: Final = re.compile("[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_INDEX: Final = re.compile("0|[1-9][0-9]{0,5}")


def _malformed(detail: str) -> Refusal:
    return Refusal(Reason.BODY_MALFORMED, detail)


_NO_BOUNDARY: Final = Refusal(Reason.MEDIA_TYPE_UNSUPPORTED, "`multipart/form-data` without one plain `boundary`")
_PREAMBLE: Final = _malformed("the body does not begin with its boundary")
_DELIMITER: Final = _malformed("a boundary that neither begins nor ends a part")
_EPILOGUE: Final = _malformed("bytes behind the last boundary, or no last boundary")
_PART_HEAD: Final = _malformed("the header of a part")
_TOO_MANY: Final = _malformed(f"more than {MAX_FILES} files")
_OPERATIONS: Final = invalid("the first part is not `operations`, or it is a file")
_MAP: Final = invalid("the second part is not `map`, or it is a file")
_MAP_SHAPE: Final = invalid("`map` does not give each file one variable")
_FILE_NAME: Final = invalid("a name in `map` that is `operations` or `map`, or no plain word")
_PATH: Final = invalid("`map` points at something other than a variable that is null, or at one twice")
_FILES: Final = invalid("the files are not those of `map`, each once")


@final
class _Part:
    __slots__ = ("content", "file_name", "media_type", "name")

    name: Final[str]
    file_name: Final[str | None]
    media_type: Final[str]
    content: Final[bytes]

    def __init__(self, name: str, file_name: str | None, media_type: str, content: bytes) -> None:
        self.name = name
        self.file_name = file_name
        self.media_type = media_type
        self.content = content


@final
class Upload:
    """A request with its files. `operations` is what is judged, and written anew."""

    __slots__ = ("_files", "_map", "boundary", "operations")

    operations: Final[dict[str, object]]
    boundary: Final[bytes]
    """Of what is sent. It stands in no file: it is worked out from the whole body that has them."""
    _map: Final[bytes]
    _files: Final[list[_Part]]

    def __init__(self, operations: dict[str, object], mapping: bytes, files: list[_Part], boundary: bytes) -> None:
        self.operations = operations
        self.boundary = boundary
        self._map = mapping
        self._files = files

    def written(self, operations: bytes) -> bytes:
        """The body that is sent, with the canonical `operations`."""
        pieces: list[bytes] = []
        for name, content in ((b"operations", operations), (b"map", self._map)):
            pieces += (
                b'--%b\r\ncontent-disposition: form-data; name="%b"\r\ncontent-type: application/json\r\n\r\n'
                % (self.boundary, name),
                content,
                b"\r\n",
            )
        for file in self._files:
            pieces += (
                b'--%b\r\ncontent-disposition: form-data; name="%b"; filename="%b"\r\ncontent-type: %b\r\n\r\n'
                % (self.boundary, file.name.encode(), (file.file_name or "").encode(), file.media_type.encode()),
                file.content,
                b"\r\n",
            )
        pieces.append(b"--%b--\r\n" % self.boundary)
        return b"".join(pieces)


def boundary_in(content_type: bytes) -> bytes | Refusal:
    """The boundary that a `Content-Type` of an upload names."""
    match = _BOUNDARY.fullmatch(content_type.partition(b";")[2])
    if match is None:
        return _NO_BOUNDARY
    return match.group(1) or match.group(2)


def read_upload(body: bytes, boundary: bytes) -> Upload | Refusal:
    """The upload in `body`, or why it is none. Never raises."""
    parts = _parts(body, boundary)
    if isinstance(parts, Refusal):
        return parts

    if not parts or parts[0].name != "operations" or parts[0].file_name is not None:
        return _OPERATIONS
    if len(parts) < 2 or parts[1].name != "map" or parts[1].file_name is not None:
        return _MAP

    operations = strict_json(parts[0].content)
    if type(operations) is not dict:
        return not_object(operations)
    mapping = strict_json(parts[1].content)
    if isinstance(mapping, Refusal):
        return mapping
    fault = _map_fault(mapping, operations)
    if fault is not None:
        return fault

    files = parts[2:]
    assert type(mapping) is dict  # or it had a fault
    if [file.file_name for file in files].count(None) or sorted(file.name for file in files) != sorted(mapping):
        return _FILES
    digest = hashlib.sha256(body).hexdigest().encode()
    return Upload(operations, orjson.dumps(mapping), files, b"bearergate-" + digest[:48])


def _parts(body: bytes, boundary: bytes) -> list[_Part] | Refusal:
    delimiter = b"\r\n--" + boundary
    if not body.startswith(delimiter[2:]):
        return _PREAMBLE
    pieces = body[len(delimiter) - 2 :].split(delimiter)
    if pieces.pop() not in (b"--", b"--\r\n"):
        return _EPILOGUE
    if len(pieces) > MAX_FILES + 2:
        return _TOO_MANY

    parts: list[_Part] = []
    for piece in pieces:
        if piece[:2] != b"\r\n":
            # Some readers take a boundary with more behind it for one, some do not.
            return _DELIMITER
        end = piece.find(b"\r\n\r\n", 0, MAX_PART_HEAD_BYTES)
        part = None if end < 0 else _part(piece[2:end], piece[end + 4 :])
        if part is None:
            return _PART_HEAD
        parts.append(part)
    return parts


def _part(head: bytes, content: bytes) -> _Part | None:
    """The part with this header; None where a reader could take it for another."""
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        return None
    said: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name.lower() in said:
            return None
        said[name.lower()] = value.strip(" \t")

    disposition = _DISPOSITION.fullmatch(said.pop("content-disposition", ""))
    media_type = said.pop("content-type", "application/octet-stream")
    if disposition is None or _PART_TYPE.fullmatch(media_type) is None:
        return None
    # Both are said by older clients, mean nothing here, and are not passed on.
    if said.pop("content-length", str(len(content))) != str(len(content)):
        return None
    if said.pop("content-transfer-encoding", "binary").lower() not in _CODINGS or said:
        return None
    return _Part(disposition.group(1), disposition.group(2), media_type, content)


def _map_fault(mapping: object, operations: dict[str, object]) -> Refusal | None:
    """Each file has one place, which is a variable that is null, and no two have the same."""
    if type(mapping) is not dict or not mapping:
        return _MAP_SHAPE
    taken: set[str] = set()
    for name, paths in mapping.items():
        # A file of the name of another part could be taken for that one (G27).
        if _FILE.fullmatch(name) is None or name.lower() in ("operations", "map"):
            return _FILE_NAME
        if type(paths) is not list or len(paths) != 1 or type(paths[0]) is not str:
            return _MAP_SHAPE
        path = paths[0]
        if path in taken or not _is_null_variable(path, operations):
            return _PATH
        taken.add(path)
    return None


def _is_null_variable(path: str, operations: dict[str, object]) -> bool:
    steps = path.split(".")
    if len(steps) < 2 or steps[0] != "variables":
        return False
    place: object = operations
    for step in steps:
        if type(place) is dict and step in place:
            place = place[step]
        elif type(place) is list and _INDEX.fullmatch(step) is not None and int(step) < len(place):
            place = place[int(step)]
        else:
            return False
    return place is None
