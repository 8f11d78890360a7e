"""User tokens in memory, for the data plane: verified once, then asked at each use whether they still count.

What it guarantees: a token's text is nowhere in memory but on its way through; an answer is never older than its time
to live, the token's own end, or the keys that verified it; a flood of forged tokens evicts no good one, holds up the
event loop for a millisecond at a time at most, and waits in a bounded line; and "cannot decide" is never remembered.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Final

from gateway.core.credential import Credential, CredentialKind, KeyDigest
from gateway.core.principal import UserRecord
from gateway.core.reasons import CannotDecide, Reason, Refusal
from gateway.ports import MISSING, Clock, Missing
from gateway.tokens.fetching import IssuerUnreachable
from gateway.tokens.introspection import Introspector
from gateway.tokens.issuers import Issuer
from gateway.tokens.jwks import KeyRing
from gateway.tokens.key_set import VerificationKey
from gateway.tokens.standing import Standing
from gateway.tokens.verify import KeyWanted, verify

TTL_SECONDS: Final = 300.0
"""A verified token changes nothing by growing old: revocations are looked at on each use. It bounds memory alone."""
REFUSED_TTL_SECONDS: Final = 5.0
MAX_ENTRIES: Final = 100_000
"""Some 900 bytes each, the record included: 90 MB when full."""
MAX_REFUSED: Final = 20_000
MAX_WAITING: Final = 1_024
"""Tokens that wait to be verified: at 0.15 ms each, the last one waits as many milliseconds as one look-up may take."""
MAX_ASKING: Final = 128
"""Tokens that wait for one issuer: for its newer keys, or for what it says of them."""
TURN_TOKENS: Final = 16
TURN_SECONDS: Final = 0.001
"""One turn of verifications: after that, the event loop does all its other work first (K13, K18)."""

_Answer = UserRecord | Refusal | CannotDecide

_NOT_CURRENT: Final = CannotDecide(Reason.STORE_UNAVAILABLE, "revocations of user tokens may have been missed")
_TOO_MANY: Final = CannotDecide(Reason.OVERLOADED, "too many user tokens wait to be verified")
_ASKING: Final = CannotDecide(Reason.ISSUER_UNAVAILABLE, "too many user tokens wait for their issuer")
_NO_KEY: Final = Refusal(Reason.TOKEN_UNKNOWN, "`kid` is no key of the issuer")
_OPAQUE: Final = Refusal(Reason.TOKEN_KIND_UNSUPPORTED, "an opaque token, and no issuer is asked about such")
_ENDED: Final = CannotDecide(Reason.INTERNAL_FAULT, "the gateway ends")


class TokenCounters:
    """What was done with user tokens since the start. Plain integers, read by the metrics whenever they like."""

    __slots__ = ("cannot_decide", "hits", "misses", "refused", "refused_hits", "turned_away", "verified")

    def __init__(self) -> None:
        self.hits = 0
        """Answered from memory with a record, whatever has happened to it since."""
        self.refused_hits = 0
        self.misses = 0
        self.verified = 0
        self.refused = 0
        self.cannot_decide = 0
        self.turned_away = 0
        """Not looked at, because too many were waiting."""


class _Flight:
    """One token on its way, and who waits for the answer."""

    __slots__ = ("answer", "credential")

    def __init__(self, credential: Credential, answer: asyncio.Future[_Answer]) -> None:
        self.credential = credential
        self.answer = answer


class VerifiedUsers:
    """`UserFinder` by issuers' keys and answers. It owns the tasks that ask issuers: close it with `aclose`."""

    # INVARIANT: one set of issuers for all its life, so what it remembers was judged by the configuration that it
    # has (H8); another configuration is another finder, with a memory of its own.

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        rings: Mapping[str, KeyRing],
        standing: Standing,
        clock: Clock,
        *,
        introspector: Introspector | None = None,
        max_entries: int = MAX_ENTRIES,
        max_refused: int = MAX_REFUSED,
        ttl_seconds: float = TTL_SECONDS,
        refused_ttl_seconds: float = REFUSED_TTL_SECONDS,
        max_waiting: int = MAX_WAITING,
        max_asking: int = MAX_ASKING,
    ) -> None:
        self.counters = TokenCounters()
        self._issuers = issuers
        """Those with keys, by `iss`."""
        self.rings = rings
        """By the name of the issuer."""
        self.standing = standing
        self.introspector = introspector
        self._now = clock.now
        self._monotonic = clock.monotonic
        self._max_entries = max_entries
        self._max_refused = max_refused
        self._ttl = ttl_seconds
        self._refused_ttl = refused_ttl_seconds
        self._max_waiting = max_waiting
        self._max_asking = max_asking
        self._known: OrderedDict[KeyDigest, tuple[UserRecord, float]] = OrderedDict()
        self._refused: OrderedDict[KeyDigest, tuple[Refusal, float]] = OrderedDict()
        self._flights: dict[KeyDigest, _Flight] = {}
        self._line: deque[_Flight] = deque()
        self._is_pumping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: Counter[str] = Counter()
        """How many wait for each issuer, by its name: one that is silent holds up nobody else's tokens."""
        for ring in rings.values():
            ring.on_change = self.forget_all

    @property
    def known_count(self) -> int:
        """Tokens held now, those past their time included until they are replaced."""
        return len(self._known)

    @property
    def refused_count(self) -> int:
        """Refused tokens held now, likewise."""
        return len(self._refused)

    def cached(self, credential: Credential) -> UserRecord | Refusal | CannotDecide | Missing:
        """What is known of the token, asked anew whether it was revoked since; `MISSING` when memory cannot answer."""
        digest = credential.digest
        entry = self._known.get(digest)
        if entry is not None and self._monotonic() < entry[1]:
            self.counters.hits += 1
            return self._asked_anew(entry[0])

        refused = self._refused.get(digest)
        if refused is not None and self._monotonic() < refused[1]:
            self.counters.refused_hits += 1
            return refused[0]

        self.counters.misses += 1
        return MISSING

    async def find(self, credential: Credential) -> UserRecord | Refusal | CannotDecide:
        """The token verified by its issuer's keys, or by asking its issuer. Never raises."""
        flight = self._flights.get(credential.digest)
        if flight is None:
            if len(self._flights) >= self._places(self._max_waiting, credential):
                self.counters.turned_away += 1
                return _TOO_MANY
            flight = self._take_off(credential)

        # The answer is nobody's in particular: a caller that is cancelled leaves, and the others get theirs.
        answer = await asyncio.shield(flight.answer)
        return self._asked_anew(answer) if isinstance(answer, UserRecord) else answer

    def forget_all(self) -> None:
        """The keys have changed: what was verified by the old ones, or refused for want of new ones, is asked again."""
        self._known.clear()
        self._refused.clear()

    async def aclose(self) -> None:
        """Ends the questions under way; who waits for one is told that it cannot be decided."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ring in self.rings.values():
            await ring.aclose()
        for flight in list(self._flights.values()):
            self._land(flight, _ENDED)

    def _asked_anew(self, record: UserRecord) -> UserRecord | Refusal | CannotDecide:
        standing = self.standing
        if not standing.is_current:
            return _NOT_CURRENT
        reason = standing.refuses(record)
        return record if reason is None else Refusal(reason)

    def _places(self, limit: int, credential: Credential) -> int:
        """A quarter is for tokens that were good within memory's reach, so that a flood of forged ones does not turn
        away a user whose time in memory has just run out.
        """
        return limit if credential.digest in self._known else limit - limit // 4

    def _take_off(self, credential: Credential) -> _Flight:
        flight = _Flight(credential, asyncio.get_running_loop().create_future())
        self._flights[credential.digest] = flight
        if credential.kind is CredentialKind.USER_JWT:
            self._queue(flight)
        elif self.introspector is None:
            self._land(flight, _OPAQUE)
        else:
            self._ask(flight, None)
        return flight

    def _land(self, flight: _Flight, answer: _Answer) -> None:
        self._flights.pop(flight.credential.digest, None)
        if isinstance(answer, UserRecord):
            self.counters.verified += 1
        elif isinstance(answer, Refusal):
            self.counters.refused += 1
        else:
            self.counters.cannot_decide += 1
        if not flight.answer.done():
            flight.answer.set_result(answer)

    # -- verification, a few in each turn of the event loop

    def _queue(self, flight: _Flight) -> None:
        self._line.append(flight)
        if not self._is_pumping:
            self._is_pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Verifies the first in the line for one turn; the rest waits until the loop has done its other work."""
        began = self._monotonic()
        for _ in range(TURN_TOKENS):
            self._verify(self._line.popleft())
            if not self._line or self._monotonic() - began >= TURN_SECONDS:
                break
        self._is_pumping = bool(self._line)
        if self._is_pumping:
            asyncio.get_running_loop().call_soon(self._pump)

    def _verify(self, flight: _Flight) -> None:
        answer = self._verified(flight.credential)
        if isinstance(answer, KeyWanted):
            self._ask(flight, answer)
        else:
            self._land(flight, answer)

    def _verified(self, credential: Credential) -> _Answer | KeyWanted:
        assert credential.text is not None  # user tokens carry it
        now = self._now()
        try:
            answer = verify(credential.text.reveal(), credential.digest, self._issuers, self._key_of, now)
        except Exception as fault:
            return _failed(fault)
        if isinstance(answer, UserRecord):
            keys_until = self.rings[self._issuers[answer.issuer].name].good_until
            self._keep(answer, min(self._monotonic() + self._ttl, keys_until), now)
        elif isinstance(answer, Refusal):
            self._keep_refused(credential.digest, answer)
        return answer

    def _key_of(self, issuer: Issuer, kid: str) -> VerificationKey | None:
        return self.rings[issuer.name].key(kid)

    # -- what has to be asked of an issuer

    def _ask(self, flight: _Flight, wanted: KeyWanted | None) -> None:
        name = _name_of(self.introspector if wanted is None else wanted)
        if self._asking[name] >= self._places(self._max_asking, flight.credential):
            self._land(flight, _ASKING)
            return
        self._asking[name] += 1
        task = asyncio.create_task(self._answer(flight, wanted))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._answered(task, name))

    def _answered(self, task: asyncio.Task[None], name: str) -> None:
        self._asking[name] -= 1
        self._tasks.discard(task)

    async def _answer(self, flight: _Flight, wanted: KeyWanted | None) -> None:
        answer: _Answer = _ENDED
        try:
            if wanted is None:
                answer = await self._introspected(flight.credential)
            else:
                answer = await self._with_newer_keys(flight.credential, wanted)
        except Exception as fault:
            answer = _failed(fault)
        finally:
            self._land(flight, answer)

    async def _introspected(self, credential: Credential) -> _Answer:
        assert self.introspector is not None
        assert credential.text is not None
        # The age of an answer counts from the question.
        asked_at = self._monotonic()
        answer = await self.introspector.ask(credential.text.reveal(), credential.digest)
        if isinstance(answer, UserRecord):
            self._keep(answer, asked_at + self.introspector.ttl_seconds, self._now())
        elif isinstance(answer, Refusal):
            self._keep_refused(credential.digest, answer)
        return answer

    async def _with_newer_keys(self, credential: Credential, wanted: KeyWanted) -> _Answer:
        try:
            key = await self.rings[wanted.issuer.name].seek(wanted.kid)
        except IssuerUnreachable as fault:
            return CannotDecide(Reason.ISSUER_UNAVAILABLE, f"`kid` is no known key of the issuer; {fault}")
        answer = _NO_KEY if key is None else self._verified(credential)
        if isinstance(answer, KeyWanted):
            # The key was there and is gone again: its set is past its time.
            return CannotDecide(Reason.ISSUER_UNAVAILABLE, "the keys of the issuer are too old")
        if answer is _NO_KEY:
            self._keep_refused(credential.digest, _NO_KEY)
        return answer

    # -- memory

    def _keep(self, record: UserRecord, good_until: float, now: float) -> None:
        # Taken out first: what is put in again must become the youngest, and a token is good or refused, not both.
        self._known.pop(record.digest, None)
        self._refused.pop(record.digest, None)
        # INVARIANT: never beyond the token's own end (F39).
        self._known[record.digest] = (record, min(good_until, self._monotonic() + record.expires_at - now))
        while len(self._known) > self._max_entries:
            self._known.popitem(last=False)

    def _keep_refused(self, digest: KeyDigest, refusal: Refusal) -> None:
        self._known.pop(digest, None)
        self._refused.pop(digest, None)
        self._refused[digest] = (refusal, self._monotonic() + self._refused_ttl)
        while len(self._refused) > self._max_refused:
            self._refused.popitem(last=False)


def _name_of(asked: KeyWanted | Introspector | None) -> str:
    """Of the issuer that is asked."""
    assert asked is not None
    return asked.issuer.name


def _failed(fault: Exception) -> CannotDecide:
    # What should never happen: the question has no answer, and those who wait for one need to hear so.
    return CannotDecide(Reason.INTERNAL_FAULT, f"the verification failed ({type(fault).__name__})")
