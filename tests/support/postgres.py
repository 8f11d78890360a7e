"""A PostgreSQL server of the tests' own, on a free loopback port, with everything in a folder that goes with it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from gateway.stores.postgres_database import postgres_place, prepare_postgres

START_SECONDS = 30.0
MEMORY_BYTES = 2 * 1024**3
TEMPLATE = "bearergate_template"

# What is stored here is wanted no longer than the tests run: nothing waits for a disk. What a commit has reported is
# with the kernel all the same, and outlives the server's process.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """One cluster. It can be ended, ended badly and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        self._data = folder / "data"
        self._log = folder / "log"
        self._databases = 0
        self._has_template = False
        self._process: subprocess.Popen[bytes] | None = None
        # Facts: PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            folder.chmod(0o755)
            self._data.mkdir()
            os.chown(self._data, user.pw_uid, user.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "tester", "-N", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        """Returns when it answers."""
        options = {**OPTIONS, "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *arguments],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as,
            )
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up_at, "PostgreSQL did not start"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT is `pg_ctl stop -m immediate`: as if it had crashed. SIGINT is `-m fast`."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_SECONDS)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def new_database(self) -> str:
        """The URL of a store that is ready and empty."""
        if not self._has_template:
            self._has_template = True
            self.execute("postgres", f"CREATE DATABASE {TEMPLATE}")
            prepare_postgres(postgres_place(self.url(TEMPLATE))).dispose()
        return self.url(self.empty_database(TEMPLATE))

    def empty_database(self, template: str = "template0") -> str:
        """The name of a database without a store in it."""
        self._databases += 1
        name = f"keys_{self._databases}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def url(self, database: str) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, statement: str) -> None:
        """As whoever may do anything."""
        url = database if "://" in database else self.url(database)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    def value(self, database: str, statement: str) -> Any:
        """The first column of the first row."""
        url = database if "://" in database else self.url(database)
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
        return None if row is None else row[0]

    def backends(self, url: str) -> list[int]:
        """The processes that serve the gateway's connections to that database."""
        statement = (
            "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'bearergate' "
            "AND datname = current_database()"
        )
        return self.value(url, statement) or []

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], cwd="/", capture_output=True, text=True, check=False, **self._as
        )
        assert done.returncode == 0, done.stderr


def programs() -> Path:
    """Where the server's programs are. Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent

    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    assert versions, "PostgreSQL is not installed; scripts/system-packages installs it"
    return versions[-1]


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server that ends with the block."""
    # Every test has a database of its own, of a thousand files: in memory where that can be had.
    memory = Path("/dev/shm")
    home = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES else None
    with tempfile.TemporaryDirectory(prefix="bearergate-postgres-", dir=home, ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()
