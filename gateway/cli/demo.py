"""`bearergate demo`: a whole small world on loopback, with example upstreams, Apps and keys, ready to be tried."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer
import uvloop

from gateway.assembly import CannotStart
from gateway.demo.announce import Announcement, UpstreamAddresses, page, write_announcement
from gateway.demo.cast import DemoApp, create_cast
from gateway.demo.child import HOST, Order
from gateway.demo.example import Example, ExampleInvalid, read_example
from gateway.demo.issuer import UserToken, described, issue
from gateway.demo.process import UpstreamsFailed, running_upstreams
from gateway.demo.shipped import shipped_policies
from gateway.keys.refused import KeyRefused
from gateway.ports import StoreUnavailable
from gateway.settings import SettingsInvalid, read_settings

_POLICY: Final = "reference.yaml"
_EXAMPLE: Final = "reference.demo.yaml"
_ANY_PORT: Final = 65_535
_ADMIN_PORT: Final = 9090


class DemoFailed(Exception):
    """The demo cannot start. The text is one line, made to be shown."""


_FAULTS: Final = (
    DemoFailed,
    ExampleInvalid,
    UpstreamsFailed,
    StoreUnavailable,
    KeyRefused,
    SettingsInvalid,
    CannotStart,
)
"""Everything that can be wrong before the demo is ready; each carries a text made to be shown."""


def demo(
    port: Annotated[int, typer.Option(help="Port of the gateway; 0 for a free one.", min=0, max=_ANY_PORT)] = 8080,
    admin_port: Annotated[
        int | None,
        typer.Option(
            help="Port of metrics and health; 0 for a free one. 9090, or a free one where the gateway takes one.",
            min=0,
            max=_ANY_PORT,
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write addresses and keys there once all is ready.", dir_okay=False)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Keep the store there (a new one); else it is gone with the demo.", file_okay=False),
    ] = None,
) -> None:
    """Try the gateway: example upstreams, two Apps with keys for each scope, and requests to paste."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _home(folder) as home:
            _run(home, port, _ADMIN_PORT * bool(port) if admin_port is None else admin_port, json_file)
    except KeyboardInterrupt:
        # Ending a demo is how it is meant to end.
        return
    except (*_FAULTS, OSError) as error:
        typer.echo(f"bearergate: the demo cannot start: {error}", err=True)
        raise typer.Exit(1) from error


@dataclass(frozen=True, slots=True)
class _Stage:
    """All that is settled before the gateway starts."""

    policies: Path
    store: str
    listen: str
    admin_listen: str
    example: Example
    apps: tuple[DemoApp, ...]
    keys: Path
    """What verifies the tokens of `users`."""
    users: tuple[UserToken, ...]


def _run(home: Path, port: int, admin_port: int, json_file: Path | None) -> None:
    from gateway.assembly.keys import open_key_service  # noqa: PLC0415 - what no other command needs is loaded here

    for wanted, option in ((port, "--port"), (admin_port, "--admin-port")):
        _refuse_busy(wanted, option)

    policies = shipped_policies()
    example = read_example(policies / _EXAMPLE)
    file = home / "demo.sqlite3"
    # A store holds no token, so the keys of an earlier demo could not be shown, and new Apps would stand beside theirs.
    if file.exists():
        raise DemoFailed(f"`{file}` is the store of an earlier demo; give `--dir` another folder, or delete this one")

    store = f"sqlite:///{file}"
    with open_key_service(store, create=True) as service:
        apps = create_cast(service, example)

    keys = home / "issuer.jwks.json"
    users = issue(apps, time.time(), keys)
    stage = _Stage(policies, store, f"{HOST}:{port}", f"{HOST}:{admin_port}", example, apps, keys, users)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(asyncio.CancelledError):
        runner.run(_serve(stage, json_file))


async def _serve(stage: _Stage, json_file: Path | None) -> None:
    """Runs until it is cancelled, which a signal does."""
    from gateway.assembly.serving import start  # noqa: PLC0415 - likewise

    _cancel_on_signal()
    order = Order(str(stage.policies / _EXAMPLE), {app.id: app.users for app in stage.apps})
    async with AsyncExitStack() as stack:
        upstreams = await stack.enter_async_context(running_upstreams(order))
        addresses = UpstreamAddresses(f"http://{HOST}:{upstreams.rest}", f"http://{HOST}:{upstreams.graphql}")
        settings = read_settings(
            policy=stage.policies / _POLICY,
            upstreams={"rest": addresses.rest, "graphql": addresses.graphql},
            listen=stage.listen,
            admin_listen=stage.admin_listen,
            store=stage.store,
            issuers=described(stage.keys),
        )
        running = await start(settings)
        stack.push_async_callback(running.stop)
        announcement = Announcement(
            f"http://{HOST}:{running.proxy_port}",
            f"http://{HOST}:{running.admin_port}",
            addresses,
            stage.apps,
            stage.store,
            stage.users,
        )
        if json_file is not None:
            write_announcement(announcement, json_file)
        typer.echo(page(announcement, stage.example))
        sys.stdout.flush()
        await asyncio.Event().wait()


def _cancel_on_signal() -> None:
    """The first SIGINT or SIGTERM cancels the running task; further ones do not disturb the cleaning up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, cancel)


@contextmanager
def _home(folder: Path | None) -> Iterator[Path]:
    """The folder given, made if need be, or a fresh one that goes with the demo."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return

    with tempfile.TemporaryDirectory(prefix="bearergate-demo-") as fresh:
        yield Path(fresh)


def _refuse_busy(port: int, option: str) -> None:
    """Raises: DemoFailed"""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise DemoFailed(f"port {port} is in use; choose another with `{option} N`, or `{option} 0`") from error


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
