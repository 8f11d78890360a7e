"""What clients of a gateway with two workers feel when PostgreSQL, the way to it or an issuer fails: real processes.

Nothing that is bad is ever granted, and what cannot be decided is 503, never 401 or 403. `pytest -s` shows how long
each recovery took; two seconds are promised.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from gateway.keys.mint import mint
from gateway.keys.service import KeyService
from gateway.stores import open_key_service
from gateway.stores.postgres_pool import CONNECTIONS, RETRY_SECONDS
from tests.support.fleet import KeyServer, Node, TokenIssuer, Told, ask, cut_listeners, fleet, thaw, until
from tests.support.gate import Gate, gate
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.raw import RawClient
from tests.support.recording_upstream import RecordingUpstream

TTL_SECONDS = 7.0
"""Instead of 30, so that it runs out within a test."""
KEEP_SECONDS = 3.0
"""Instead of an hour: how long the keys of a silent issuer count."""
LOOKUP_SECONDS = 0.5
PATIENCE_SECONDS = 1.5
"""What the promises of time get on top, because other tests use the machine as well."""
RECOVERY_SECONDS = 2.0 + PATIENCE_SECONDS
HEALTHY_SECONDS = 1.0 + PATIENCE_SECONDS
PAUSE_SECONDS = 0.005


@dataclass(slots=True)
class Scene:
    """A gateway, what it depends on, and keys."""

    server: PostgresServer
    url: str
    store: Gate
    """Between the gateway and the store."""
    news: Gate
    """Between the gateway and what tells it of changes."""
    node: Node
    service: KeyService
    app_id: str
    issuer: TokenIssuer
    key_server: KeyServer
    upstream: RecordingUpstream

    def new_key(self) -> tuple[str, str]:
        """(token, key id)"""
        made = self.service.create_key(self.app_id, name="key", scopes=["READ"])
        return made.token.reveal(), made.key.id

    def new_user_token(self, kid: str = "1") -> str:
        now = int(time.time())
        token, _ = self.issuer.token(self.app_id, "user-1", issued_at=now - 10, expires_at=now + 600, kid=kid)
        return token

    @contextmanager
    def clients(self) -> Iterator[list[RawClient]]:
        """A kept connection to each worker."""
        with ExitStack() as held:
            yield self.node.on_each_worker(held)

    def settle(self) -> float:
        """Returns when every worker has heard of all changes so far: seconds that the news of the last one took."""
        with self.clients() as clients:
            token, key_id = self.new_key()
            until(lambda: {ask(client, token).status for client in clients} == {200}, "a look-up")
            self.service.revoke_key(key_id)
            return until(lambda: {ask(client, token).status for client in clients} == {401}, "the news")


@dataclass(slots=True)
class Asking:
    """Asks on one connection for as long as the block lasts."""

    client: RawClient
    token: Callable[[], str]
    told: list[Told] = field(default_factory=list)
    _ends: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._ends.is_set():
            self.told.append(ask(self.client, self.token()))
            time.sleep(PAUSE_SECONDS)

    def end(self) -> None:
        self._ends.set()

    def between(self, began: float, ended: float) -> list[Told]:
        """What was asked and answered in that time."""
        return [told for told in self.told if began <= told.began and told.ended <= ended]


@contextmanager
def asking(clients: list[RawClient], token: str | Callable[[], str]) -> Iterator[list[Asking]]:
    """One asks on each of the connections."""
    callers = [Asking(client, (lambda: token) if isinstance(token, str) else token) for client in clients]
    threads = [threading.Thread(target=caller.run) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        yield callers
    finally:
        for caller in callers:
            caller.end()
        for thread in threads:
            thread.join()


def unknown_token() -> str:
    """Well-formed, and in no store."""
    return mint(os.urandom)[1].reveal()


def statuses(told: list[Told]) -> Counter[int]:
    return Counter(each.status for each in told)


def p99_ms(told: list[Told]) -> float:
    ordered = sorted(each.seconds for each in told)
    return 1000 * ordered[len(ordered) * 99 // 100]


def say(fault: str, *figures: str) -> None:
    print(f"\n{fault}: " + "; ".join(figures))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("faults")
    issuer = TokenIssuer()
    key_server = KeyServer(issuer.jwks)
    key_server.start()
    upstream = RecordingUpstream().start()
    try:
        with running_postgres() as server, gate(server.port) as store, gate(server.port) as news:
            url = server.new_database()
            database = url.rpartition("/")[2]
            with open_key_service(url) as service:
                app = service.create_app("the App", key_limit=1_000)
                keys = {"jwks_url": f"http://127.0.0.1:{key_server.port}/", "timeout": 1.0}
                times = {"refresh": 1.0, "min_interval": 1.0, "keep": KEEP_SECONDS}
                environment = {
                    "BEARERGATE_STORE": f"postgresql://tester@127.0.0.1:{store.port}/{database}?sslmode=disable",
                    "BEARERGATE_STORE_LISTEN": f"postgresql://tester@127.0.0.1:{news.port}/{database}?sslmode=disable",
                    "BEARERGATE_KEY_CACHE__TTL": str(TTL_SECONDS),
                    "BEARERGATE_KEY_CACHE__LOOKUP_TIMEOUT": str(LOOKUP_SECONDS),
                    "BEARERGATE_ISSUERS": issuer.settings(**keys, **times),
                }
                with fleet(folder, url, upstream.port, [environment]) as (node,):
                    yield Scene(server, url, store, news, node, service, app.id, issuer, key_server, upstream)
    finally:
        upstream.stop()
        key_server.stop()


@pytest.fixture(autouse=True)
def healthy(scene: Scene) -> None:
    """Each test begins with everything in order."""
    scene.settle()
    scene.upstream.clear()


def test_while_the_store_is_down_keys_in_memory_work_until_their_time_is_up(scene: Scene) -> None:
    """R1, H17, H18"""
    known, _ = scene.new_key()
    others = [scene.new_key()[0] for _ in range(20)]
    scene.settle()
    user = scene.new_user_token()
    with scene.clients() as clients, scene.clients() as more, scene.clients() as users:
        asked = time.monotonic()
        first = [ask(client, known).status for client in clients] + [ask(client, user).status for client in users]
        kept = time.monotonic()
        turn = iter(range(1_000_000))
        uncached = lambda: others[next(turn) % 20] if next(turn) % 3 else unknown_token()  # noqa: E731 - used once
        with asking(clients, known) as warm, asking(users, user) as by_user:
            scene.server.stop()
            away = time.monotonic()
            # Only now: a key that is asked with while the server still stops would be in memory.
            with asking(more, uncached) as cold:
                time.sleep(max(0.0, kept + TTL_SECONDS + PATIENCE_SECONDS - time.monotonic()))
                # Stopped for good, it is started on the same port.
                returning = time.monotonic()
            scene.server.start()
            recovery = until(lambda: all(caller.told[-1].status == 200 for caller in [*warm, *by_user]), "the return")
            news = scene.settle()
        in_memory = [told for caller in warm for told in caller.between(asked, asked + TTL_SECONDS)]
        too_old = [told for caller in warm for told in caller.between(kept + TTL_SECONDS, returning)]
        undecided = [told for caller in cold for told in caller.between(away, returning)]
        of_user = [told for caller in by_user for told in caller.told]
        users_in_time = [told for caller in by_user for told in caller.between(asked, away + TTL_SECONDS - 2.0)]

    say(
        "R1, the store is down",
        f"in memory {dict(statuses(in_memory))}, past its time {dict(statuses(too_old))}",
        f"not in memory {dict(statuses(undecided))} within {max(told.seconds for told in undecided):.3f} s at most",
        f"user tokens {dict(statuses(of_user))}",
        f"recovery {recovery:.2f} s after it answered, the next revocation {news:.3f} s",
    )
    assert set(first) == {200}
    assert set(statuses(in_memory)) == {200}
    assert set(statuses(too_old)) == {503}
    assert set(statuses(undecided)) == {503}
    assert {told.reason for told in undecided} == {"store_unavailable"}
    assert max(told.seconds for told in undecided) < LOOKUP_SECONDS + PATIENCE_SECONDS
    assert set(statuses(users_in_time)) == {200}
    assert set(statuses(of_user)) == {200, 503}
    assert recovery < RECOVERY_SECONDS


def test_while_the_store_hangs_a_look_up_ends_in_time_and_keys_in_memory_do_not_notice(scene: Scene) -> None:
    """R2"""
    known, _ = scene.new_key()
    scene.settle()
    with scene.clients() as clients, scene.clients() as more:
        assert {ask(client, known).status for client in clients} == {200}
        with asking(clients, known) as warm:
            began = time.monotonic()
            time.sleep(1.0)
            stopped = [scene.server.pid, *scene.server.backends(scene.url)]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            hung = time.monotonic()
            try:
                with asking(more, unknown_token) as cold:
                    time.sleep(2.0)
            finally:
                goes_on = time.monotonic()
                thaw(stopped)
            with asking(more, unknown_token) as after:
                recovery = until(
                    lambda: all(caller.told and caller.told[-1].status == 401 for caller in after), "the return"
                )
        before = [told for caller in warm for told in caller.between(began, hung)]
        during = [told for caller in warm for told in caller.between(hung, goes_on)]
        undecided = [told for caller in cold for told in caller.told]

    slowest = max(told.seconds for told in undecided)
    say(
        "R2, the store hangs",
        f"in memory {dict(statuses(during))}, p99 {p99_ms(before):.1f} ms before and {p99_ms(during):.1f} ms during it",
        f"not in memory {dict(statuses(undecided))}, {slowest:.3f} s at most",
        f"recovery {recovery:.2f} s",
    )
    assert set(statuses(before + during)) == {200}
    assert set(statuses(undecided)) == {503}
    assert slowest < LOOKUP_SECONDS + PATIENCE_SECONDS
    assert recovery < RECOVERY_SECONDS


def test_a_store_that_comes_and_goes_every_second_is_not_overrun(scene: Scene) -> None:
    """R3"""
    known, _ = scene.new_key()
    scene.settle()
    flaps = 6
    with scene.clients() as clients, scene.clients() as more:
        assert {ask(client, known).status for client in clients} == {200}
        connects, began = scene.store.connects, time.monotonic()
        with asking(clients, known) as warm, asking(more, unknown_token) as cold:
            for _ in range(flaps):
                scene.store.shut()
                time.sleep(0.5)
                scene.store.open()
                time.sleep(0.5)
            took, tried = time.monotonic() - began, scene.store.connects - connects
            recovery = until(lambda: all(caller.told[-1].status == 401 for caller in cold), "the return")
        in_memory = [told for caller in warm for told in caller.told if told.ended < began + TTL_SECONDS]
        asked = [told for caller in cold for told in caller.told]

    say(
        "R3, the store comes and goes",
        f"in memory {dict(statuses(in_memory))}, not in memory {dict(statuses(asked))}",
        f"{tried} connections tried by two workers in {took:.1f} s",
        f"recovery {recovery:.2f} s",
    )
    assert set(statuses(in_memory)) == {200}
    assert set(statuses(asked)) == {401, 503}
    assert tried <= 2 * (1 + took / RETRY_SECONDS + flaps * CONNECTIONS)
    assert recovery < RECOVERY_SECONDS


def test_a_damaged_row_is_no_answer_and_said_once(scene: Scene) -> None:
    """R4"""
    for damage in ("scopes = '[\"READ\"'", "scopes = '[1]'", "state = 'half'", "pepper_id = 'lost'"):
        token, key_id = scene.new_key()
        column = damage.partition(" ")[0]
        whole = scene.server.value(scene.url, f"SELECT {column} FROM keys WHERE id = '{key_id}'")
        scene.server.execute(scene.url, f"UPDATE keys SET {damage} WHERE id = '{key_id}'")
        lines = len(_undecided(scene.node))

        told = scene.node.once(token)
        until(lambda: len(_undecided(scene.node)) > lines, "the line in the log")  # noqa: B023 - called at once
        said = [line["detail"] for line in _undecided(scene.node)[lines:]]
        scene.server.execute(scene.url, f"UPDATE keys SET {column} = '{whole}' WHERE id = '{key_id}'")

        assert (told.status, told.reason) == (503, "store_unavailable")
        assert len(said) == 1
        assert ("`lost`" if column == "pepper_id" else key_id) in said[0]
        # No doubt is remembered.
        assert scene.node.once(token).status == 200
        assert token not in scene.node.said.read_text() + scene.node.log.read_text()


def _undecided(node: Node) -> list[dict[str, str]]:
    """The lines of the access log about it."""
    lines = [json.loads(line) for line in node.log.read_text().splitlines()]
    return [line for line in lines if line["reason"] == "store_unavailable"]


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_without_its_wake_up_a_revocation_is_found_by_the_poll(scene: Scene, how: str) -> None:
    """R6, H19"""
    token, key_id = scene.new_key()
    scene.settle()
    with scene.clients() as clients:
        assert {ask(client, token).status for client in clients} == {200}
        connects, lost = scene.news.connects, time.monotonic()
        if how == "cut":
            cut_listeners(scene.server, scene.url)
        else:
            scene.news.silence()
        scene.service.revoke_key(key_id)
        lag = until(lambda: {ask(client, token).status for client in clients} == {401}, "the revocation")
        noticed = until(lambda: scene.news.connects >= connects + 2, "another listener of each worker")
        noticed = time.monotonic() - lost
        scene.news.break_silent()
    again = until(lambda: _listeners(scene) == 2, "the listeners")

    say(f"R6, the listener is {how}", f"lag {lag:.3f} s, noticed after {noticed:.2f} s, back after {again:.2f} s more")
    assert lag < HEALTHY_SECONDS
    assert noticed < 5.0 + PATIENCE_SECONDS
    assert again < 5.0 + PATIENCE_SECONDS


def _listeners(scene: Scene) -> int:
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bearergate' "
        "AND datname = current_database() AND (query LIKE 'LISTEN %' OR query = 'SELECT 1')"
    )
    return int(scene.server.value(scene.url, statement))


def test_a_worker_that_hangs_holds_up_no_writer_and_refuses_when_it_goes_on(scene: Scene) -> None:
    """R7"""
    token, key_id = scene.new_key()
    scene.settle()
    with scene.clients() as clients:
        assert {ask(client, token).status for client in clients} == {200}
        hung = scene.node.workers[0]
        os.kill(hung, signal.SIGSTOP)
        try:
            began = time.monotonic()
            scene.service.revoke_key(key_id)
            for _ in range(30):
                scene.new_key()
            wrote = time.monotonic() - began
            # The first connection is the first worker's.
            lag = until(lambda: ask(clients[1], token).status == 401, "the revocation at the other worker")
            usage = scene.server.value(scene.url, "SELECT pg_notification_queue_usage()")
            time.sleep(2.0)
        finally:
            os.kill(hung, signal.SIGCONT)
        heard = until(lambda: ask(clients[0], token).status == 401, "the revocation at the one that hung")

    say(
        "R7, a worker hangs",
        f"31 commits in {wrote:.2f} s, lag of the other worker {lag:.3f} s, its own {heard:.3f} s after it went on",
        f"{usage} of the queue in use",
    )
    assert wrote < 10.0
    assert lag < HEALTHY_SECONDS
    assert heard < HEALTHY_SECONDS
    assert usage < 0.01


def test_while_an_issuer_is_away_its_keys_serve_for_their_time_and_api_keys_for_ever(scene: Scene) -> None:
    """R34"""
    key, _ = scene.new_key()
    scene.settle()
    known, other, strange = scene.new_user_token(), scene.new_user_token(), scene.new_user_token(kid="2")
    with scene.clients() as clients:
        until(lambda: {ask(client, known).status for client in clients} == {200}, "the keys of the issuer")
        before = ask(clients[0], scene.new_user_token(kid="3"))
        scene.key_server.stop()
        away = time.monotonic()
        # The last good set is up to one refresh old.
        in_time = []
        while time.monotonic() < away + KEEP_SECONDS - 2.0:
            in_time += [ask(client, token) for client in clients for token in (known, scene.new_user_token())]
        failed = until(lambda: {ask(client, strange).status for client in clients} == {503}, "doubt about the keys")
        until(lambda: {ask(client, known).status for client in clients} == {503}, "the end of the keys' time")
        ended = time.monotonic() - away
        undecided = [ask(client, token) for client in clients for token in (known, other, strange)]
        keys = [ask(client, key) for client in clients]
        scene.key_server.start()
        recovery = until(
            lambda: [ask(client, token).status for client in clients for token in (known, other)] == [200] * 4,
            "the issuer's return",
        )
        unknown = until(lambda: {ask(client, strange).status for client in clients} == {401}, "the unknown key")

    say(
        "R34, the issuer is away",
        f"{len(in_time)} tokens verified meanwhile",
        f"an unknown key is 503 {failed:.2f} s later, and all are {ended:.2f} s after its end",
        f"recovery {recovery:.2f} s, an unknown key is 401 again {unknown:.2f} s later",
    )
    assert before.status == 401
    assert set(statuses(in_time)) == {200}
    assert ended < KEEP_SECONDS + PATIENCE_SECONDS
    assert {(told.status, told.reason) for told in undecided} == {(503, "issuer_unavailable")}
    assert set(statuses(keys)) == {200}
    # Away for so long, it is asked again after four seconds at the latest.
    assert recovery < 4.0 + PATIENCE_SECONDS
