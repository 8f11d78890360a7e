"""User tokens put together: issuers, their keys, what was revoked. Loaded where an issuer is configured, else not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from gateway.assembly import CannotStart
from gateway.core.credential import AppId
from gateway.core.token_kinds import Kinds, kinds_of
from gateway.observe.readings import IssuerReading, TokenReading
from gateway.ports import Clock, TokenStore
from gateway.settings import Settings
from gateway.token_settings import IssuerSettings
from gateway.tokens import introspection
from gateway.tokens.fetching import MAX_ANSWER_BYTES, IssuerClient
from gateway.tokens.finder import VerifiedUsers
from gateway.tokens.introspection import Introspector
from gateway.tokens.issuers import NO_APP, Issuer, IssuerInvalid, by_iss
from gateway.tokens.jwks import FILE_REFRESH_SECONDS, KeyRing, file_reader, read_file
from gateway.tokens.jws import bare_type
from gateway.tokens.key_set import KeySetInvalid, read_key_set
from gateway.tokens.standing import Standing

_LOG: Final = logging.getLogger("bearergate")

CATCH_UP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Users:
    """The parts behind user tokens."""

    finder: VerifiedUsers
    standing: Standing
    kinds: Kinds
    clients: tuple[IssuerClient, ...]

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What runs in the background, for tasks that the caller owns."""
        return [*(ring.follow() for ring in self.finder.rings.values()), self._catch_up()]

    async def aclose(self) -> None:
        """Ends the questions under way and closes the connections to issuers."""
        await self.finder.aclose()
        for client in self.clients:
            await client.aclose()

    def reading(self) -> TokenReading:
        """What `/metrics` shows."""
        finder = self.finder
        counters, introspector = finder.counters, finder.introspector
        issuers = {
            name: IssuerReading(ring.loaded, ring.failed, ring.size, ring.age_seconds)
            for name, ring in finder.rings.items()
        }
        if introspector is not None:
            issuers[introspector.issuer.name] = IssuerReading(introspector.answered, introspector.failed)
        return TokenReading(
            hits=counters.hits,
            refused_hits=counters.refused_hits,
            misses=counters.misses,
            verified=counters.verified,
            refused=counters.refused,
            cannot_decide=counters.cannot_decide + counters.turned_away,
            known=finder.known_count,
            refused_known=finder.refused_count,
            revocations=self.standing.size,
            issuers=issuers,
        )

    async def _catch_up(self) -> None:
        while True:
            await asyncio.sleep(CATCH_UP_SECONDS)
            try:
                await self.standing.catch_up()
            except Exception:
                # Whatever it was, what is not read now is read a second later.
                _LOG.exception("revocations of user tokens could not be read")


def open_users(settings: Settings, store: TokenStore, clock: Clock, silence_seconds: Callable[[], float]) -> Users:
    """The parts behind user tokens, as the settings describe their issuers. Raises: CannotStart"""
    try:
        issuers = {name: _issuer(name, given) for name, given in settings.issuers.items()}
        by_iss(issuers.values())
    except IssuerInvalid as fault:
        raise CannotStart(str(fault)) from fault

    clients: list[IssuerClient] = []
    rings: dict[str, KeyRing] = {}
    introspector = None
    for name, issuer in issuers.items():
        given = settings.issuers[name]
        if given.introspection_url is None:
            rings[name] = _ring(issuer, given, clock, clients)
        else:
            introspector = _introspector(issuer, given, clock, clients)

    cache = settings.token_cache
    standing = Standing(
        store,
        clock,
        silence_seconds=silence_seconds,
        ttl_seconds=settings.key_cache.ttl,
    )
    finder = VerifiedUsers(
        by_iss(issuers[name] for name in rings),
        rings,
        standing,
        clock,
        introspector=introspector,
        max_entries=cache.max_entries,
        max_refused=cache.max_refused,
        ttl_seconds=cache.ttl,
        refused_ttl_seconds=cache.refused_ttl,
    )
    return Users(finder, standing, kinds_of(jwt=bool(rings), opaque=introspector is not None), tuple(clients))


def _issuer(name: str, given: IssuerSettings) -> Issuer:
    return Issuer(
        name=name,
        iss=given.issuer,
        audience=given.audience,
        app_id=NO_APP if given.app is None else AppId(given.app),
        app_claim=given.app_claim or "",
        user_claim=given.user_claim,
        algorithms=frozenset(given.algorithms),
        token_types=frozenset(bare_type(kind) for kind in given.token_types),
        leeway_seconds=given.leeway,
        max_lifetime_seconds=given.max_lifetime,
    )


def _ring(issuer: Issuer, given: IssuerSettings, clock: Clock, clients: list[IssuerClient]) -> KeyRing:
    read: Callable[[], Awaitable[bytes]]
    refresh, min_interval = given.refresh, given.min_interval
    if given.jwks_file is not None:
        # Read once before anything is served: a file is there now, or it is a fault of the configuration.
        try:
            read_key_set(read_file(given.jwks_file), issuer.algorithms)
        except OSError as fault:
            raise CannotStart(
                f"issuers.{issuer.name}.jwks_file: `{given.jwks_file}` cannot be read: {fault.strerror}"
            ) from fault
        except KeySetInvalid as fault:
            raise CannotStart(f"issuers.{issuer.name}.jwks_file: `{given.jwks_file}`: {fault}") from fault
        read = file_reader(given.jwks_file)
        refresh, min_interval = min(refresh, FILE_REFRESH_SECONDS), min(min_interval, FILE_REFRESH_SECONDS)
    else:
        assert given.jwks_url is not None  # the settings have exactly one source
        client = _client(issuer, given.jwks_url, given)
        clients.append(client)
        read = client.get
    return KeyRing(
        issuer.name,
        read,
        clock,
        algorithms=issuer.algorithms,
        refresh_seconds=refresh,
        keep_seconds=given.keep,
        min_interval_seconds=min_interval,
    )


def _introspector(issuer: Issuer, given: IssuerSettings, clock: Clock, clients: list[IssuerClient]) -> Introspector:
    assert given.introspection_url is not None
    assert given.client_id is not None
    client = _client(
        issuer, given.introspection_url, given, introspection.MAX_CONNECTIONS, introspection.MAX_ANSWER_BYTES
    )
    clients.append(client)
    secret = _secret(issuer.name, given)
    return Introspector(issuer, client, given.client_id, secret, clock, ttl_seconds=given.introspection_ttl)


def _client(
    issuer: Issuer, url: str, given: IssuerSettings, max_connections: int = 2, max_bytes: int = MAX_ANSWER_BYTES
) -> IssuerClient:
    try:
        return IssuerClient(
            url,
            timeout_seconds=given.timeout,
            ca_file=given.ca_file,
            max_connections=max_connections,
            max_answer_bytes=max_bytes,
        )
    except OSError as fault:  # ssl.SSLError is one
        raise CannotStart(
            f"issuers.{issuer.name}.ca_file: `{given.ca_file}` cannot be used: {fault.strerror}"
        ) from fault


def _secret(name: str, given: IssuerSettings) -> str:
    if given.client_secret is not None:
        return given.client_secret.get_secret_value()
    assert given.client_secret_file is not None
    where = f"issuers.{name}.client_secret_file: `{given.client_secret_file}`"
    try:
        secret = given.client_secret_file.read_text("utf-8").rstrip("\r\n")
    except OSError as fault:
        raise CannotStart(f"{where} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise CannotStart(f"{where} is no UTF-8") from fault
    if not secret or not secret.isprintable():
        raise CannotStart(f"{where} has no secret on one line")
    return secret
