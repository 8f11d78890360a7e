"""A whole gateway over PostgreSQL: what clients see when its store is changed, dies and comes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.assembly import CannotStart
from gateway.settings import KeyCacheSettings
from gateway.stores import open_key_service
from tests.support.gateway import Key, RunningGateway, running_gateway
from tests.support.manual_clock import ManualClock
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.raw import exchange

PATIENCE_SECONDS = 5.0
"""Two are promised; a machine that is busy with other things gets some more."""


def status(gateway: RunningGateway, key: Key) -> int:
    request = b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n" + key.line + b"\r\n"
    return exchange(gateway.port, request).status


def test_a_revocation_is_felt_without_waiting_for_the_poll(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.url(postgres.empty_database())
    with running_gateway(tmp_path, store=url) as gateway:
        assert status(gateway, gateway.keys.a) == 200
        listener = gateway.running.gateway._listener
        assert listener is not None
        gateway.until(lambda: listener.is_listening)
        with open_key_service(url) as service:
            service.revoke_key(gateway.keys.a.key_id.decode())
        began = time.monotonic()
        # The poll of this gateway comes every five seconds.
        # The poll of this gateway comes every five seconds.
        while status(gateway, gateway.keys.a) != 401:
            assert time.monotonic() - began < 2.5

        assert status(gateway, gateway.keys.b) == 200


def test_a_store_that_dies_and_returns_denies_nobody(tmp_path: Path) -> None:
    """R1"""
    with running_postgres() as server:
        url = server.url(server.empty_database())
        cache = KeyCacheSettings(poll=0.2, lookup_timeout=0.5)
        with running_gateway(tmp_path, store=url, key_cache=cache) as gateway:
            assert status(gateway, gateway.keys.a) == 200
            server.stop()
            cold = {status(gateway, key) for key in (gateway.keys.b, gateway.keys.unknown) for _ in range(20)}
            warm = {status(gateway, gateway.keys.a) for _ in range(20)}
            server.start()
            began = time.monotonic()
            while status(gateway, gateway.keys.b) != 200:
                assert time.monotonic() - began < PATIENCE_SECONDS

            assert status(gateway, gateway.keys.unknown) == 401
    assert (cold, warm) == ({503}, {200})


def test_a_gateway_without_the_stores_pepper_denies_nobody(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    tmp_path.joinpath("pepper").write_bytes(bytes(range(32)))
    with running_gateway(tmp_path, store=url, peppers={"2026": tmp_path / "pepper"}) as gateway:
        postgres.execute(url, "UPDATE keys SET pepper_id = '2027' WHERE name = 'b'")

        assert status(gateway, gateway.keys.a) == 200
        assert status(gateway, gateway.keys.b) == 503
        gateway.settle()
        assert "2027" in gateway.outcomes[-1].detail


def test_a_gateway_whose_pepper_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    clock = ManualClock(time.time())
    with (
        pytest.raises(CannotStart, match="`2026` cannot be read"),
        running_gateway(tmp_path, clock=clock, peppers={"2026": tmp_path / "nowhere"}),
    ):
        pass


@pytest.mark.parametrize("place", ["nonsense", "sqlite:///keys.sqlite3"])
def test_a_place_to_listen_at_that_is_not_understood_is_told_at_the_start(
    postgres: PostgresServer, tmp_path: Path, place: str
) -> None:
    url = postgres.new_database()

    with (
        pytest.raises(CannotStart, match=r"store_listen: .* write `postgresql://"),
        running_gateway(tmp_path, store=url, store_listen=place),
    ):
        pass


def test_a_key_of_another_region_is_told_by_its_letter_in_the_log_alone(tmp_path: Path) -> None:
    with running_gateway(tmp_path, region="u") as gateway:
        foreign = Key(b"ek5Tq0aVb81LmZc." + b"s" * 48, b"", b"")
        request = b"GET /items HTTP/1.1\r\nHost: gateway.test\r\n" + foreign.line + b"\r\n"
        answers = [exchange(gateway.port, request), exchange(gateway.port, request.replace(b"ek5", b"uk5"))]
        gateway.settle()
        details = [outcome.detail for outcome in gateway.outcomes[-2:]]

    assert [401, 401] == [answer.status for answer in answers]
    assert [answer.body.replace(answer.ref, b"") for answer in answers[:1]] == [
        answers[1].body.replace(answers[1].ref, b"")
    ]
    assert details == ["its id is of region `e`", "its id is of region `u`"]
