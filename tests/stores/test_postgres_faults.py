"""What PostgreSQL does wrong, and what is made of it: no answer instead of a wrong one, and a quick return.

The server is a real one: it is killed, stopped in the middle, made to flap, and its connections are cut.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psycopg
import pytest

from gateway.core.credential import Credential, CredentialKind, KeyId
from gateway.core.principal import KeyRecord
from gateway.ports import StoreUnavailable
from gateway.stores import open_key_service
from gateway.stores.cached import CachedKeyFinder
from gateway.stores.feed import ChangeFeed
from gateway.stores.postgres import CHANNEL, PostgresKeyStore
from gateway.stores.postgres_database import postgres_place
from gateway.stores.postgres_listener import ANSWER_SECONDS, SILENCE_SECONDS, ChangeListener
from gateway.stores.postgres_pool import RETRY_SECONDS
from tests.stores.contract import a_digest, credential_of
from tests.support.manual_clock import ManualClock
from tests.support.postgres import PostgresServer, running_postgres

RECOVERY_SECONDS = 5.0
"""Two are promised; a machine that is busy with other things gets some more."""
SAFETY_SECONDS = 20.0

UNKNOWN = Credential(CredentialKind.API_KEY, KeyId("xk0000000000000"), a_digest(1))


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    """A server that tests may end, and start again."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def url(mortal: PostgresServer) -> str:
    return mortal.new_database()


@pytest.fixture
def key(url: str) -> Credential:
    with open_key_service(url) as service:
        return credential_of(service.create_key(service.create_app("A").id, name="k", scopes=["S"]))


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[PostgresKeyStore]:
    store = PostgresKeyStore(postgres_place(url), **options)  # type: ignore[arg-type]  # seconds, all of them
    try:
        yield store
    finally:
        await store.aclose()


async def asked(store: PostgresKeyStore, credential: Credential) -> str:
    """`good`, `unknown` or `no answer`; anything else is an error."""
    try:
        record = await store.find(credential)
    except StoreUnavailable:
        return "no answer"
    return "unknown" if record is None else "good" if record.digest == credential.digest else "wrong"


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = SAFETY_SECONDS) -> float:
    """How long it took."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


# -- R1: the server dies


async def test_a_server_that_died_gives_no_answer_and_is_found_again_when_it_returns(
    mortal: PostgresServer, url: str, key: Credential
) -> None:
    async with opened(url) as store:
        before = [await asked(store, key), await asked(store, UNKNOWN)]
        mortal.stop()
        try:
            began = time.monotonic()
            attempts = store.pool.attempts
            during = [await asked(store, each) for _ in range(200) for each in (key, UNKNOWN)]
            took = time.monotonic() - began
            tried = store.pool.attempts - attempts
        finally:
            mortal.start()

        async def is_back() -> bool:
            return await asked(store, key) == "good"

        await until(is_back, RECOVERY_SECONDS)
        assert await asked(store, UNKNOWN) == "unknown"

    assert before == ["good", "unknown"]
    assert set(during) == {"no answer"}
    # A store that is down says so at once, and hears of us four times a second at most.
    assert took < 1.0
    assert tried <= 1 + took / RETRY_SECONDS


async def test_a_server_that_was_started_anew_between_two_look_ups_costs_no_answer(
    mortal: PostgresServer, url: str, key: Credential
) -> None:
    async with opened(url, lookup_timeout_seconds=5.0) as store:
        assert ["good"] * 4 == await asyncio.gather(*(asked(store, key) for _ in range(4)))
        mortal.stop()
        mortal.start()

        assert await asked(store, key) == "good"


# -- R2: the server hangs


async def test_a_server_that_hangs_costs_the_deadline_and_no_connection(
    mortal: PostgresServer, url: str, key: Credential
) -> None:
    async with opened(url, lookup_timeout_seconds=0.2) as store:
        await asyncio.gather(*(asked(store, key) for _ in range(4)))
        stopped = [mortal.pid, *mortal.backends(url)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            answers = await asyncio.gather(*(asked(store, each) for _ in range(50) for each in (key, UNKNOWN)))
            first = time.monotonic() - began
            attempts, began = store.pool.attempts, time.monotonic()
            while time.monotonic() - began < 1.0:
                answers += [await asked(store, key), await asked(store, UNKNOWN)]
                await asyncio.sleep(0.005)
            tried = store.pool.attempts - attempts
            open_files = len(os.listdir("/proc/self/fd"))
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

        async def is_back() -> bool:
            return await asked(store, key) == "good"

        await until(is_back, RECOVERY_SECONDS)
        # What was given up ends on the server's side too.
        await until(lambda: _few(mortal, url))

        assert len(os.listdir("/proc/self/fd")) <= open_files + 4
    assert set(answers) == {"no answer"}
    assert first < 1.0
    assert tried <= 1 + 1.0 / RETRY_SECONDS


async def _few(server: PostgresServer, url: str) -> bool:
    return len(server.backends(url)) <= 4


async def test_a_statement_that_waits_for_a_lock_is_ended_on_the_server_too(
    mortal: PostgresServer, url: str, key: Credential
) -> None:
    async with opened(url, lookup_timeout_seconds=0.1, feed_timeout_seconds=0.3) as store:
        with psycopg.connect(url) as hog:
            hog.execute("LOCK TABLE keys IN ACCESS EXCLUSIVE MODE")
            for _ in range(5):
                assert await asked(store, key) == "no answer"

            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

            async def nobody_waits() -> bool:
                return bool(mortal.value(url, waiting) == 0)

            await until(nobody_waits, 2.0)

        async def is_back() -> bool:
            return await asked(store, key) == "good"

        await until(is_back, RECOVERY_SECONDS)


# -- R3: the server comes and goes


class Gate:
    """A port that takes connections and lets them go on to PostgreSQL, or breaks them, as it is told."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.is_open = True
        self.is_silent = False
        self.connects = 0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.shut()

    def shut(self) -> None:
        """Breaks what is open, and every connection to come."""
        self.is_open = False
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        if not self.is_open:
            writer.transport.abort()
            return
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, onward_writer}
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, onward_writer), self._pass(onward_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            # A peer that is gone without a word: everything is taken and nothing arrives.
            if not self.is_silent:
                writer.write(data)
        writer.close()


@asynccontextmanager
async def gate(server: PostgresServer) -> AsyncIterator[Gate]:
    made = Gate(server.port)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def through(gate: Gate, url: str) -> str:
    return f"postgresql://tester@127.0.0.1:{gate.port}/{url.rpartition('/')[2]}?sslmode=disable"


async def test_a_server_that_flaps_is_not_overrun_and_keys_in_memory_work(
    mortal: PostgresServer, url: str, key: Credential
) -> None:
    async with gate(mortal) as door, opened(through(door, url)) as store:
        finder = CachedKeyFinder(store, ManualClock())
        assert await finder.find(key) is not None
        answers: list[str] = []
        door.connects = 0
        began = time.monotonic()
        for _ in range(3):
            door.shut()
            for phase in (0.3, 0.3):
                end = time.monotonic() + phase
                while time.monotonic() < end:
                    answers += await asyncio.gather(*(asked(store, key) for _ in range(8)))
                    assert isinstance(finder.cached(key.digest), KeyRecord)
                    await asyncio.sleep(0.005)
                door.is_open = True
        took = time.monotonic() - began
        await finder.aclose()

    assert set(answers) <= {"good", "no answer"}
    assert "good" in answers
    # While it is down, one attempt in 250 ms; after each return as many as there are places.
    assert door.connects <= 1 + took / RETRY_SECONDS + 3 * 4


# -- R6, R7: the listener


@asynccontextmanager
async def listening(url: str, **options: float) -> AsyncIterator[tuple[ChangeListener, list[float]]]:
    """A listener, and when it woke somebody."""
    heard: list[float] = []
    listener = ChangeListener(postgres_place(url), lambda: heard.append(time.monotonic()), **options)
    task = asyncio.create_task(listener.listen())

    async def is_listening() -> bool:
        return listener.is_listening

    await until(is_listening)
    try:
        yield listener, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_operator_is_told_once_that_nobody_can_listen(
    mortal: PostgresServer, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener = ChangeListener(postgres_place(url + "_gone"), lambda: None)
    task = asyncio.create_task(listener.listen())

    async def has_tried_again() -> bool:
        return listener.attempts > 2

    await until(has_tried_again)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    (said,) = [record.message for record in caplog.records]
    assert "the key store cannot be listened to: " in said
    assert "does not exist" in said


async def test_a_commit_wakes_the_feed_at_once(mortal: PostgresServer, url: str, key: Credential) -> None:
    async with opened(url) as store:
        finder = CachedKeyFinder(store, ManualClock())
        feed = ChangeFeed(store, finder, ManualClock(), poll_seconds=3_600.0)
        await feed.poll_once()
        assert await finder.find(key) is not None
        listener = ChangeListener(postgres_place(url), feed.wake)
        tasks = [asyncio.create_task(listener.listen()), asyncio.create_task(feed.follow())]

        async def is_listening() -> bool:
            return listener.is_listening

        await until(is_listening)
        await asyncio.to_thread(revoke, url, key)

        async def is_forgotten() -> bool:
            return not isinstance(finder.cached(key.digest), KeyRecord)

        took = await until(is_forgotten)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await finder.aclose()

    assert took < 1.0


def revoke(url: str, key: Credential) -> None:
    with open_key_service(url) as service:
        service.revoke_key(key.key_id)


async def test_a_transaction_that_is_undone_wakes_nobody(mortal: PostgresServer, url: str) -> None:
    async with listening(url) as (_, heard):
        with open_key_service(url) as service:
            with suppress(LookupError), service._book.writing():
                raise LookupError
            undone = len(heard)
            service.create_app("A")

        async def is_told() -> bool:
            return len(heard) > undone

        await until(is_told)
    # The first one is for what was written before it listened.
    assert len(heard) == 2


async def test_a_listener_whose_backend_is_ended_listens_again_and_makes_up_for_the_gap(
    mortal: PostgresServer, url: str
) -> None:
    async with listening(url) as (listener, heard):
        [backend] = mortal.backends(url)
        mortal.value(url, f"SELECT pg_terminate_backend({backend})")

        async def is_back() -> bool:
            return listener.attempts == 2 and listener.is_listening

        took = await until(is_back)

    assert took < RECOVERY_SECONDS
    assert len(heard) == 2


async def test_a_listener_whose_peer_is_gone_without_a_word_is_replaced(mortal: PostgresServer, url: str) -> None:
    async with gate(mortal) as door, listening(through(door, url), silence_seconds=0.2, answer_seconds=0.2) as pair:
        listener, _ = pair
        door.is_silent = True

        async def is_lost() -> bool:
            return not listener.is_listening

        lost = await until(is_lost)
        door.is_silent = False

        async def is_back() -> bool:
            return listener.is_listening

        await until(is_back, RECOVERY_SECONDS)

    assert lost < 1.0


def test_a_silent_listener_is_noticed_within_five_seconds() -> None:
    assert SILENCE_SECONDS + ANSWER_SECONDS <= 5.0


@pytest.mark.parametrize("payload", ["", "x" * 7_999, "'; DROP TABLE keys; --", '{"position": 99999999}'])
async def test_what_a_notification_says_is_not_looked_at(mortal: PostgresServer, url: str, payload: str) -> None:
    """H20"""
    async with listening(url) as (listener, heard):
        with psycopg.connect(url, autocommit=True) as anybody:
            anybody.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])

        async def is_told() -> bool:
            return len(heard) == 2

        await until(is_told)
        assert listener.is_listening


LISTEN_IN_ANOTHER_PROCESS = """
import asyncio, sys
from gateway.stores.postgres_database import postgres_place
from gateway.stores.postgres_listener import ChangeListener
asyncio.run(ChangeListener(postgres_place(sys.argv[1]), lambda: print("woken", flush=True)).listen())
"""


async def test_a_listener_that_does_not_read_holds_up_no_writer(mortal: PostgresServer, url: str) -> None:
    """R7"""
    command = [sys.executable, "-c", LISTEN_IN_ANOTHER_PROCESS, url]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "woken\n"
        child.send_signal(signal.SIGSTOP)
        with psycopg.connect(url, autocommit=True) as writer:
            for number in range(500):
                writer.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(number)])
            usage = writer.execute("SELECT pg_notification_queue_usage()").fetchone()
        child.send_signal(signal.SIGCONT)

        assert child.stdout.readline() == "woken\n"
        assert usage is not None
        assert usage[0] < 0.01
    finally:
        child.kill()
        child.communicate()


# -- R5, R27: not there, not ours, not now


def test_a_place_where_nothing_listens_is_told_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(StoreUnavailable, match=f"cannot be reached: .*port {port} failed"):
        open_key_service(f"postgresql://tester:s3cret@127.0.0.1:{port}/keys")


async def test_a_primary_that_became_a_replica_is_left(mortal: PostgresServer, url: str, key: Credential) -> None:
    """R5: a demoted primary starts anew, and then takes no writes."""
    database = url.rpartition("/")[2]
    async with opened(url) as store:
        assert await asked(store, key) == "good"
        mortal.execute("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        for backend in mortal.backends(url):
            mortal.value("postgres", f"SELECT pg_terminate_backend({backend})")

        with pytest.raises(StoreUnavailable, match="session is read-only"):
            await store.find(key)


@contextmanager
def full(server: PostgresServer, url: str) -> Iterator[None]:
    """A database that takes no connection more."""
    database = url.rpartition("/")[2]
    server.execute("postgres", f"ALTER DATABASE {database} CONNECTION LIMIT 0")
    server.execute("postgres", "CREATE ROLE plain LOGIN")
    try:
        yield
    finally:
        server.execute("postgres", "DROP ROLE plain")


async def test_a_server_without_a_place_for_us_gives_no_answer(mortal: PostgresServer, url: str) -> None:
    with full(mortal, url):
        async with opened(url.replace("tester@", "plain@")) as store:
            assert await asked(store, UNKNOWN) == "no answer"
