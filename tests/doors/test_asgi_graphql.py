"""GraphQL in every way that a route takes, through the ASGI door: judged, sent and answered as by the proxy door."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.doors.test_asgi import AsgiServer, seen_through
from tests.doors.threats.test_group_g_transports import DOCUMENTS, FORCED, GOOD, POLICY, in_url
from tests.support.gateway import RunningGateway, running_gateway


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, AsgiServer]]:
    folder = tmp_path_factory.mktemp("asgi-graphql")
    folder.joinpath("app.documents.json").write_text(json.dumps(DOCUMENTS), "utf-8")
    with running_gateway(folder, policy=POLICY) as gateway:
        server = AsgiServer(gateway.settings.model_copy(update={"access_log": str(folder / "asgi.log")})).start()
        yield gateway, server
        server.stop()


JSON = b"application/json"
SENT: dict[str, tuple[bytes, bytes, tuple[bytes, ...], bytes, bytes, int]] = {
    "get": (b"GET", b"/get?" + in_url(query="{ item }").encode(), (), b"", b"", 200),
    "mutation by get": (b"GET", b"/get?" + in_url(query="mutation { add }").encode(), (), b"", b"", 405),
    "batch": (b"POST", b"/batch", (), b'[{"query":"{ item }"},{"query":"{item}"}]', JSON, 200),
    "batch with a refused one": (b"POST", b"/batch", (), b'[{"query":"{ item }"},{"query":"{secret}"}]', JSON, 403),
    "document": (b"POST", b"/docs", (), b'{"documentId":"item-1"}', JSON, 200),
    "upload": (b"POST", b"/upload", (FORCED,), GOOD, b"multipart/form-data; boundary=XyZ", 200),
    "verbatim": (b"POST", b"/verbatim", (), b'{ "query":"{ item }"}', JSON, 200),
    "subscription": (
        b"POST",
        b"/events",
        (b"Accept: text/event-stream",),
        b'{"query":"subscription {added}"}',
        JSON,
        200,
    ),
    "nothing that is accepted": (b"POST", b"/plain", (b"Accept: text/html",), b'{"query":"{item}"}', JSON, 406),
}


@pytest.mark.parametrize("name", SENT)
def test_both_doors_judge_and_send_alike(both: tuple[RunningGateway, AsgiServer], name: str) -> None:
    gateway, server = both
    method, target, fields, body, media_type, status = SENT[name]
    framing = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (media_type, len(body)) if body else b""
    head = b"%b %b HTTP/1.1\r\nHost: gateway.test\r\n%b" % (method, target, gateway.keys.a.line)
    data = head + b"".join(field + b"\r\n" for field in fields) + framing + b"\r\n" + body

    by_proxy = seen_through(gateway.port, gateway, method, data)
    by_asgi = seen_through(server.port, gateway, method, data)

    assert by_proxy == by_asgi
    assert status == by_asgi[0][0]
    assert (status == 200) is bool(by_asgi[1])
