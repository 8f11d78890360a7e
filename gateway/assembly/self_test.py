"""The guards, tried before anything is served: a dozen requests that must not pass, and one that must.

They go through the very class that serves, in memory, with a policy under which each of them would be forwarded if
its guard were not there. A parser that was swapped for a laxer one, a broken build or a patched file shows here, and
not in an attack. No socket, store or clock of the gateway is touched, and neither its metrics nor its log hear of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.assembly import CannotStart
from gateway.core.credential import Credential, CredentialKind, KeyDigest
from gateway.core.policy.requirement import Requirement, ScopeNeed
from gateway.core.policy.routes import ErrorShape, Policy, Route
from gateway.core.principal import KeyRecord
from gateway.core.reasons import Reason
from gateway.core.scopes import ScopeRegistry
from gateway.doors.proxy import ClientConnection
from gateway.doors.refs import References
from gateway.doors.services import Services
from gateway.judge import Judge
from gateway.ports import Outcome, ResponseSink, UpstreamExchange, UpstreamFailed
from gateway.wire.limits import Timeouts

_HOST: Final = b"Host: gateway.test\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_NO_CHUNKS: Final = b"\r\n0\r\n\r\n"
_GET: Final = b"GET /open HTTP/1.1\r\n" + _HOST
_POST: Final = b"POST /open HTTP/1.1\r\n" + _HOST


class Attempt(NamedTuple):
    """A request that must not pass: what is wrong with it, its bytes, and the status that must refuse it."""

    what: str
    sent: bytes
    status: int = 400


ATTEMPTS: Final = (
    Attempt("`Content-Length` beside `Transfer-Encoding`", _POST + b"Content-Length: 5\r\n" + _CHUNKED + _NO_CHUNKS),
    Attempt("two `Content-Length`", _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    Attempt("`Transfer-Encoding: xchunked`", _POST + b"Transfer-Encoding: xchunked\r\n" + _NO_CHUNKS),
    Attempt("a chunk size of `0x3`", _POST + _CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    Attempt("a trailer field", _POST + _CHUNKED + b"\r\n3\r\nabc\r\n0\r\nX-Gateway-Key-Id: admin\r\n\r\n"),
    Attempt("a line that ends without CR", _GET + b"X-A: b\nX-C: d\r\n\r\n"),
    Attempt("a folded field", _GET + b"X-A: b\r\n c\r\n\r\n"),
    Attempt("a NUL in a value", _GET + b"X-A: b\x00c\r\n\r\n"),
    Attempt("a field name with `_`", _GET + b"X_Gateway_Key_Id: admin\r\n\r\n"),
    Attempt("two `Host`", _GET + b"Host: other.test\r\n\r\n"),
    Attempt("HTTP/0.9", b"GET /open\r\n" + _HOST + b"\r\n"),
    Attempt("HTTP/2.0 in the request line", b"GET /open HTTP/2.0\r\n" + _HOST + b"\r\n", 505),
    Attempt("a dot segment", b"GET /open/../closed HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Attempt("an encoded slash", b"GET /open%2Fclosed HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Attempt("a whole URL as the target", b"GET http://gateway.test/open HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Attempt("a body with GET", _GET + b"Content-Length: 3\r\n\r\nabc"),
    Attempt("no token where one is needed", b"GET /closed HTTP/1.1\r\n" + _HOST + b"\r\n", 401),
    Attempt(
        "a token that nobody has",
        b"GET /closed HTTP/1.1\r\n" + _HOST + b"Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\r\n",
        401,
    ),
)

_GOOD: Final = (
    b"GET /open?x=1 HTTP/1.1\r\n" + _HOST + b"X-Mine: a\r\nX-Gateway-Key-Id: admin\r\nX-Forwarded-For: 192.0.2.1\r\n"
    b"X-Gone: b\r\nConnection: x-gone\r\n\r\n"
)
_FORWARDED: Final = (
    b"GET /open?x=1 HTTP/1.1\r\nhost: upstream.test\r\nx-mine: a\r\nx-forwarded-for: 127.0.0.1\r\n"
    b"x-forwarded-proto: http\r\nvia: 1.1 bearergate\r\nx-forwarded-host: gateway.test\r\nx-gateway-kind: \r\n"
    b"x-gateway-key-id: \r\nx-gateway-app-id: \r\nx-gateway-user-id: \r\nx-gateway-scopes: \r\n"
    b"x-gateway-request-id: "
)
_REF_AND_END: Final = len("00000000-0000-4000-8000-000000000000\r\n\r\n")


def try_guards(door: Callable[[Services], asyncio.Protocol] | None = None) -> None:
    """Returns when every guard has held. `door` makes what takes a client's bytes; by default what serves.

    Raises: CannotStart with a line for each request that passed, or did not
    """
    faults: list[str] = []
    for attempt in ATTEMPTS:
        client, upstream = _sent(attempt.sent, door or _door)
        if upstream.whole:
            faults.append(f"self-test: a request with {attempt.what} was forwarded; {_REMEDY}")
        elif client.status != attempt.status:
            faults.append(
                f"self-test: a request with {attempt.what} was answered {client.status} instead of {attempt.status}; "
                f"{_REMEDY}"
            )
        elif not client.is_ended and attempt.status != 401:
            faults.append(f"self-test: the connection stays open after a request with {attempt.what}; {_REMEDY}")

    client, upstream = _sent(_GOOD, door or _door)
    forwarded = bytes(upstream.received)
    if not upstream.whole or not forwarded.startswith(_FORWARDED) or len(forwarded) != len(_FORWARDED) + _REF_AND_END:
        faults.append(f"self-test: a request that may pass was answered {client.status}, or changed; {_REMEDY}")
    if faults:
        raise CannotStart("\n".join(faults))


_REMEDY: Final = "install the gateway and its dependencies again, in the versions of its lock file"


def _sent(data: bytes, door: Callable[[Services], asyncio.Protocol]) -> tuple[_Client, _Upstream]:
    """What a client and the upstream have got when `data` came on a connection of its own."""
    client, upstream = _Client(), _Upstream()
    connection = door(_services(upstream))
    connection.connection_made(client)
    connection.data_received(data)
    connection.connection_lost(None)
    return client, upstream


def _door(services: Services) -> asyncio.Protocol:
    return ClientConnection(services, set(), set())


def _services(upstream: _Upstream) -> Services:
    return Services(
        judge=Judge(_POLICY, _NoKeys(), _StoppedClock()),
        upstreams={"upstream": upstream},
        recorder=_Nobody(),
        clock=_StoppedClock(),
        references=References(bytes),
        timeouts=Timeouts(),
    )


def _route(method: bytes, path: str, *, is_public: bool = True) -> Route:
    need = Requirement((ScopeNeed("ANY", frozenset(("ANY",))),))
    return Route(
        name=f"{method.decode()} {path}",
        method=method,
        pattern=path,
        upstream="upstream",
        is_public=is_public,
        allow={} if is_public else {CredentialKind.API_KEY: need, CredentialKind.LEGACY_KEY: need},
        errors=ErrorShape.PROBLEM,
        graphql=None,
        takes_body=method == b"POST",
        body_limit_bytes=0,
        parameters=(),
    )


_POLICY: Final = Policy(
    "self-test",
    ScopeRegistry(()),
    (
        _route(b"GET", "/open"),
        _route(b"POST", "/open"),
        _route(b"GET", "/closed", is_public=False),
        # No policy file can have these: what the guard of targets lets through by mistake must find a route.
        _route(b"GET", "/open/../closed"),
        _route(b"GET", "/open%2Fclosed"),
        _route(b"GET", "http://gateway.test/open"),
    ),
    ErrorShape.PROBLEM,
)


class _Client(asyncio.Transport):
    """A client's side of a connection: what it was answered, and whether more can come."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 0)})
        self.answer = bytearray()
        self.is_ended = False

    @property
    def status(self) -> int:
        """The status of the first answer; 0 when there is none."""
        return int(self.answer[9:12]) if self.answer[:9] == b"HTTP/1.1 " else 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.answer += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_ended = True

    def close(self) -> None:
        self.is_ended = True

    def abort(self) -> None:
        self.is_ended = True

    def is_closing(self) -> bool:
        return self.is_ended

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _Upstream:
    """An upstream and its one connection. `whole`: how many requests it was sent from beginning to end."""

    name = "upstream"
    authority = b"upstream.test"

    def __init__(self) -> None:
        self.received = bytearray()
        self.whole = 0

    def take(self) -> _Upstream:
        return self

    async def connect(self, instead_of: UpstreamExchange | None = None) -> _Upstream:
        raise UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, "the self-test has one connection")

    def may_retry(self) -> bool:
        return False

    def tighten(self, ends_by: float, response_head: float, response_idle: float) -> None: ...

    def send(self, data: bytes, sink: ResponseSink, *, answers_head: bool, ends: bool) -> None:
        self.received += data
        self.whole += ends

    def send_body(self, data: bytes, *, is_chunked: bool) -> None:
        self.received += data

    def end_body(self, *, is_chunked: bool) -> None:
        self.whole += 1

    def await_switch(self) -> None: ...

    def tunnel_to(self, sink: ResponseSink) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abandon(self) -> None: ...


class _NoKeys:
    """A store in which there is no key."""

    def cached(self, digest: KeyDigest) -> KeyRecord | None:
        return None

    async def find(self, credential: Credential) -> KeyRecord | None:
        return None


class _Nobody:
    """Records nothing."""

    def record(self, outcome: Outcome) -> None: ...


class _StoppedClock:
    """No time passes while the guards are tried."""

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0
