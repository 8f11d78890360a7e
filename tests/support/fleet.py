"""Several gateways with several workers each over one PostgreSQL: real processes, and what a test can do to them.

Everything that was started ends with the block. `ask` tells what a client was told, and never raises: a connection that
broke is status 0.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.postgres import PostgresServer
from tests.support.raw import BrokenAnswer, RawClient
from tests.tokens.support import jwk, jwks

SAFETY_SECONDS = 40.0
START_SECONDS = 180.0

ISS = "https://id.example.org"
AUDIENCE = "https://api.example.org"
LEEWAY_SECONDS = 5

POLICY = """\
version: 1
errors: problem
scopes:
  READ: {means: read things}
routes:
  - {name: things, match: "GET /things/{id}", upstream: things, allow: {api_key: READ, user_token: {}}}
"""


def until(holds: Callable[[], bool], what: str, seconds: float = SAFETY_SECONDS) -> float:
    """How long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"{what} did not happen within {seconds} s"
        time.sleep(0.005)
    return time.monotonic() - began


class TokenIssuer:
    """Signs user tokens by ES256, and says by which key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.jwks = jwks(jwk(self._key, "1", alg="ES256"))

    def token(self, app_id: str, user_id: str, *, issued_at: int, expires_at: int, kid: str = "1") -> tuple[str, str]:
        """(token, its `jti`)."""
        token_id = uuid.uuid4().hex
        claims = {"iss": ISS, "aud": AUDIENCE, "sub": user_id, "client_id": app_id, "jti": token_id}
        headers = {"kid": kid, "typ": "at+jwt"}
        whole = {**claims, "iat": issued_at, "exp": expires_at}
        return jwt.encode(whole, self._key, algorithm="ES256", headers=headers), token_id

    def settings(self, **where: object) -> str:
        """The setting `issuers` with this issuer alone; `where` is its `jwks_file` or `jwks_url`, and what else."""
        issuer = {"issuer": ISS, "audience": AUDIENCE, "app_claim": "client_id", "leeway": LEEWAY_SECONDS}
        return json.dumps({"accounts": {**issuer, "algorithms": ["ES256"], **where}})


class KeyServer:
    """Serves a JWKS on a port that stays the same when it is away and comes back."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.port = 0
        self.asked = 0
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked += 1
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(served._body)))
                self.end_headers()
                self.wfile.write(served._body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class calls it so
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told: status 0 is a connection that broke, or nothing for seconds."""

    began: float
    ended: float
    status: int
    reason: str
    key_id: str
    """By which key the upstream was told that the request came; empty where it was not asked, and for user tokens."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def ask(client: RawClient, token: str) -> Told:
    """One request on a connection that stays open."""
    began = time.monotonic()
    status, reason, key_id = 0, "", ""
    client.send(b"GET /things/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode())
    try:
        answer = client.read()
    except (BrokenAnswer, OSError) as fault:
        reason = f"broken: {fault}"[:120]
    except AssertionError as fault:
        reason = f"silent: {fault}"[:120]
    else:
        status = answer.status
        if status == 200:
            key_id = str(answer.json()["key_id"])
        else:
            reason = answer.reason
    return Told(began, time.monotonic(), status, reason, key_id)


class Node:
    """One gateway: a supervisor and its workers."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], said: Path, log: Path) -> None:
        self.name = name
        self.process = process
        self.said = said
        self.log = log
        self.port = 0
        self.admin = 0

    @property
    def workers(self) -> list[int]:
        """Their process numbers now."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return sorted(map(int, found.read_text().split())) if found.exists() else []

    def once(self, token: str) -> Told:
        """One request on a connection of its own."""
        began = time.monotonic()
        try:
            with RawClient(self.port) as client:
                return ask(client, token)
        except OSError as fault:
            return Told(began, time.monotonic(), 0, f"refused: {fault}", "")

    def on_each_worker(self, held: ExitStack) -> list[RawClient]:
        """One kept connection to each of the workers."""
        found: dict[int, RawClient] = {}
        wanted = self.workers
        end = time.monotonic() + SAFETY_SECONDS
        while len(found) < len(wanted):
            assert time.monotonic() < end, "a worker takes no connections"
            client = held.enter_context(RawClient(self.port))
            # Answered, so that somebody has accepted it.
            client.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read()
            holder = next((pid for pid in wanted if holds(pid, client, self.port)), 0)
            if holder and holder not in found:
                found[holder] = client
        return [found[pid] for pid in wanted]

    def metric(self, series: str) -> float:
        """The sum of all series that begin like this."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as said:
            text = said.read().decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))

    def is_whole(self, workers: int = 2) -> bool:
        return self.metric('bearergate_workers{state="ready"}') == workers


def holds(pid: int, client: RawClient, port: int) -> bool:
    """Whether the process has the other end of that connection."""
    ours = client.socket.getsockname()[1]
    inode = ""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        ends = [int(part.partition(":")[2], 16) for part in parts[1:3]]
        if ends == [port, ours]:
            inode = f"socket:[{parts[9]}]"
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if inode and os.readlink(descriptor) == inode:
                    return True
    return False


@contextmanager
def fleet(
    folder: Path,
    store_url: str,
    upstream_port: int,
    environments: Sequence[Mapping[str, str]],
    *,
    workers: int = 2,
    policy: str = POLICY,
) -> Iterator[list[Node]]:
    """One gateway for each of `environments`, all ready; ended with the block.

    What an environment says of the store holds for its gateway; the others are at `store_url`.
    """
    (folder / "policy.yaml").write_text(policy, "utf-8")
    nodes: list[Node] = []
    try:
        for number, environment in enumerate(environments):
            name = "ABCDEFGH"[number]
            said, log = folder / f"{name}.stderr", folder / f"{name}.log"
            options = {
                "policy": str(folder / "policy.yaml"),
                "upstream": f"things=http://127.0.0.1:{upstream_port}",
                "store": environment.get("BEARERGATE_STORE", store_url),
                "access-log": str(log),
                "listen": "127.0.0.1:0",
                "admin-listen": "127.0.0.1:0",
                "workers": str(workers),
            }
            words = [word for option, value in options.items() for word in (f"--{option}", value)]
            # How late the event loop is on a machine with other tests on it is no concern of these.
            calm = {"BEARERGATE_MAX_LOOP_LAG": "30"}
            with said.open("wb") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-m", "gateway", "serve", *words],
                    stdin=subprocess.DEVNULL,
                    stderr=errors,
                    # Not where the sources are, or a compiled installation would not be found before them.
                    cwd=folder,
                    env={**os.environ, **calm, **environment},
                )
            nodes.append(Node(name, process, said, log))
        for node in nodes:
            _wait_until_ready(node)
        yield nodes
    finally:
        for node in nodes:
            # A worker that a test has stopped would not notice that its supervisor ends.
            for pid in node.workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            node.process.terminate()
        for node in nodes:
            _end(node)


def _wait_until_ready(node: Node) -> None:
    end = time.monotonic() + START_SECONDS
    found = None
    while found is None:
        assert node.process.poll() is None, node.said.read_text()
        assert time.monotonic() < end, node.said.read_text()
        found = re.search(r"serving on .+:(\d+), admin on 127.0.0.1:(\d+)", node.said.read_text())
        time.sleep(0.02)
    node.port, node.admin = int(found[1]), int(found[2])


def _end(node: Node) -> None:
    workers = node.workers
    try:
        node.process.wait(5.0)
    except subprocess.TimeoutExpired:
        node.process.kill()
        node.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and _is_running(pid) for pid in workers), "their end")


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- what happens to the store


def cut_listeners(server: PostgresServer, url: str) -> None:
    """Ends the connections by which gateways are told of changes."""
    _terminate(server, url, "AND (query LIKE 'LISTEN %' OR query = 'SELECT 1')")


def cut_all(server: PostgresServer, url: str) -> None:
    """Ends every connection of the gateways."""
    _terminate(server, url, "")


def _terminate(server: PostgresServer, url: str, which: str) -> None:
    server.execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE application_name = 'bearergate' AND datname = current_database() {which}",
    )


def freeze(server: PostgresServer, url: str) -> list[int]:
    """Stops the backends of the gateways' connections where they are; those of new connections run. `thaw` them."""
    found = server.backends(url)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return found


def thaw(frozen: Sequence[int]) -> None:
    for pid in frozen:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def stop_frozen(server: PostgresServer, frozen: Sequence[int]) -> None:
    """Ends the server badly, so that nothing more is said on connections that are frozen."""
    os.kill(server.pid, signal.SIGQUIT)
    # Facts: a signal that waits is taken before the process does anything else; the server has sent it by then.
    time.sleep(0.2)
    thaw(frozen)
    server.stop()
