"""An issuer for tests: its keys, its tokens well-formed or byte by byte, and a store of revocations in memory."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.core.credential import AppId, Credential, CredentialKind, KeyId, TokenText, digest_of
from gateway.core.principal import UserRecord
from gateway.core.reasons import Refusal
from gateway.ports import StoreUnavailable, TokenRevocation
from gateway.tokens.issuers import Issuer
from gateway.tokens.key_set import KeySet, read_key_set
from gateway.tokens.verify import KeyWanted, verify
from tests.support.manual_clock import START

ISS = "https://id.example.org"
AUDIENCE = "https://api.example.org"
NOW = int(START)

EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()

ISSUER = Issuer(name="accounts", iss=ISS, audience=AUDIENCE, app_claim="client_id")
ALGORITHMS = ("ES256", "RS256", "EdDSA", "PS256")

CLAIMS: dict[str, Any] = {
    "iss": ISS,
    "aud": AUDIENCE,
    "sub": "user-1",
    "client_id": "app-1",
    "iat": NOW - 10,
    "exp": NOW + 600,
    "jti": "token-1",
}


def encoded(part: bytes) -> bytes:
    """base64url, without padding."""
    return urlsafe_b64encode(part).rstrip(b"=")


def jwk(key: Any, kid: str, /, **members: object) -> dict[str, object]:
    """The public half of `key` as an entry of a JWKS; a member that is None is left out."""
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        made = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        made = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(public, as_dict=True)
    whole = {**made, "kid": kid, **members}
    return {name: value for name, value in whole.items() if value is not None}


def jwks(*entries: dict[str, object]) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


JWKS = jwks(
    jwk(EC_KEY, "ec"),
    jwk(RSA_KEY, "rsa"),
    jwk(RSA_KEY, "pss", alg="PS256"),
    jwk(ED_KEY, "ed"),
)
KEYS: KeySet = read_key_set(JWKS, ALGORITHMS)
_SIGNING: dict[str, tuple[Any, str]] = {
    "ec": (EC_KEY, "ES256"),
    "rsa": (RSA_KEY, "RS256"),
    "pss": (RSA_KEY, "PS256"),
    "ed": (ED_KEY, "EdDSA"),
}


def claims(**changes: object) -> dict[str, Any]:
    """Good claims with changes; one that is `...` is left out."""
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}


def signature(signed: bytes, key: Any = EC_KEY, algorithm: str = "ES256") -> bytes:
    """A signature as JWS spells its bytes, not encoded."""
    made: bytes = jwt.get_algorithm_by_name(algorithm).sign(signed, key)
    return made


def raw_token(header: bytes, payload: bytes, key: Any = EC_KEY, algorithm: str = "ES256") -> bytes:
    """Header and payload as these very bytes, signed."""
    signed = encoded(header) + b"." + encoded(payload)
    return signed + b"." + encoded(signature(signed, key, algorithm))


def token(kid: str = "ec", header: Mapping[str, object] | None = None, **changes: Any) -> bytes:
    """A token of the issuer, good but for the changes of claims, and of header members (None leaves one out)."""
    key, algorithm = _SIGNING.get(kid, (EC_KEY, "ES256"))
    whole = {"alg": algorithm, "kid": kid, "typ": "at+jwt", **(header or {})}
    whole = {name: value for name, value in whole.items() if value is not None}
    return raw_token(_compact(whole), _compact(claims(**changes)), key, algorithm)


def with_payload(payload: bytes) -> bytes:
    """A token whose payload is these very bytes."""
    return raw_token(_compact({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}), payload)


def with_header(header: bytes) -> bytes:
    """A token whose header is these very bytes."""
    return raw_token(header, _compact(CLAIMS))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def verified(
    text: bytes, issuer: Issuer = ISSUER, keys: KeySet = KEYS, now: float = NOW
) -> UserRecord | Refusal | KeyWanted:
    """`verify` with the test's issuer."""
    return verify(text, digest_of(text), {issuer.iss: issuer}, lambda _, kid: keys.get(kid), now)


def credential(text: bytes, kind: CredentialKind = CredentialKind.USER_JWT) -> Credential:
    return Credential(kind, KeyId(""), digest_of(text), TokenText(text))


class MemoryTokens:
    """A `TokenStore` that tests write into, and that can be unavailable."""

    def __init__(self) -> None:
        self.apps = {AppId("app-1"): True, AppId("app-2"): True}
        self.rows: list[TokenRevocation] = []
        self.newest = 0
        self.is_available = True
        self.asked: list[int] = []
        self.before_answer: Callable[[], None] = lambda: None
        self.held: asyncio.Event | None = None
        """Holds the next answer up, once it was looked up."""

    def revoke(self, **whose: Any) -> None:
        self.newest += 1
        row = {"issuer": "", "app_id": AppId(""), "user_id": "", "token_id": "", "not_before": 0.0}
        self.rows.append(TokenRevocation(position=self.newest, **{**row, "expires_at": START + 7 * 86_400, **whose}))

    async def app_states(self) -> dict[AppId, bool]:
        self._check()
        return dict(self.apps)

    async def token_revocations(self, position: int, now: float) -> list[TokenRevocation]:
        self._check()
        self.asked.append(position)
        self.before_answer()
        found = [row for row in self.rows if row.position > position and row.expires_at > now][:1_000]
        held, self.held = self.held, None
        if held is not None:
            await held.wait()
        return found

    def _check(self) -> None:
        if not self.is_available:
            raise StoreUnavailable("the store is away")
