"""What pages of other origins may do with a route, in the header lines that tell a browser so (Fetch section 3.3).

One author: where a route has these rules, the lines are ours on every answer, and the upstream's are dropped. An
origin is compared whole and byte for byte; one that is not listed is never repeated (C29).
"""

from __future__ import annotations

from typing import Final, final

from gateway.core.facts import value_of

Lines = tuple[tuple[bytes, bytes], ...]

ORIGIN: Final = b"origin: "
REQUEST_METHOD: Final = b"access-control-request-method: "

_VARIES: Final = (b"vary", b"origin")
_PREFLIGHT_VARIES: Final = (b"vary", b"origin, access-control-request-method, access-control-request-headers")

EXPOSED: Final = (
    b"x-gateway-request-id",
    b"www-authenticate",
    b"retry-after",
    b"allow",
    b"deprecation",
    b"sunset",
    b"link",
)
"""What of our own lines a page may read, beside those that every page may."""


@final
class CorsRules:
    """The `cors:` of one or more routes. Its lines for each origin are written once."""

    __slots__ = ("_allows", "_answers", "_headers", "_max_age", "origins")

    origins: Final[frozenset[bytes]]

    def __init__(
        self,
        origins: tuple[str, ...],
        headers: tuple[str, ...] = (),
        expose: tuple[str, ...] = (),
        credentials: bool = False,
        max_age_seconds: int = 600,
    ) -> None:
        self.origins = frozenset(origin.encode("ascii") for origin in origins)
        self._headers = tuple(header.encode("ascii") for header in headers)
        self._max_age = b"%d" % max_age_seconds
        exposed = (b"access-control-expose-headers", b", ".join((*EXPOSED, *(name.encode("ascii") for name in expose))))
        credentialed = ((b"access-control-allow-credentials", b"true"),) if credentials else ()
        self._allows: dict[bytes, Lines] = {
            origin: ((b"access-control-allow-origin", origin), *credentialed) for origin in self.origins
        }
        self._answers: dict[bytes, Lines] = {
            origin: (*lines, exposed, _VARIES) for origin, lines in self._allows.items()
        }

    def lines_for(self, fields: list[bytes]) -> Lines:
        """The lines of an answer to a request with these fields: a cache must tell origins apart, whoever asks."""
        origin = value_of(fields, ORIGIN)
        return _ELSEWHERE if origin is None else self._answers.get(origin, _ELSEWHERE)

    def preflight_lines(self, origin: bytes, methods: list[bytes], takes_body: bool) -> Lines:
        """The lines that tell a page of a listed `origin` what it may send."""
        headers = (b"authorization", *((b"content-type",) if takes_body else ()), *self._headers)
        return (
            *self._allows[origin],
            (b"access-control-allow-methods", b", ".join(methods)),
            (b"access-control-allow-headers", b", ".join(dict.fromkeys(headers))),
            (b"access-control-max-age", self._max_age),
            _PREFLIGHT_VARIES,
        )


_ELSEWHERE: Final[Lines] = (_VARIES,)


def without_cors(fields: list[bytes]) -> list[bytes]:
    """An upstream's fields without what it says of other origins itself."""
    return [
        piece
        for place in range(0, len(fields), 3)
        if not fields[place].lower().startswith(b"access-control-")
        for piece in fields[place : place + 3]
    ]
