"""The demo's own issuer of user tokens: one key, made at the start, of which a file has the public half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from gateway.demo.cast import DemoApp

NAME: Final = "demo"
_ISSUER: Final = "https://issuer.demo.invalid"
_AUDIENCE: Final = "bearergate-demo"
_APP_CLAIM: Final = "client_id"
_KID: Final = "demo-1"
_USERS: Final = 2
"""Of each App, as many have a token."""
_LIFETIME_SECONDS: Final = 86_400


class UserToken(msgspec.Struct, frozen=True):
    """A token with whose it is, which only a demo keeps."""

    app: str
    user: str
    token: str

    def __repr__(self) -> str:
        return f"UserToken(app={self.app!r}, user={self.user!r})"


def issue(apps: tuple[DemoApp, ...], now: float, keys: Path) -> tuple[UserToken, ...]:
    """A token for two users of each App, and `keys` with what verifies them. Raises: OSError"""
    key = ec.generate_private_key(ec.SECP256R1())
    entry = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": _KID, "alg": "ES256", "use": "sig"}
    keys.write_bytes(msgspec.json.encode({"keys": [entry]}))
    return tuple(_issued(apps, int(now), key))


def described(keys: Path) -> dict[str, dict[str, Any]]:
    """The issuer as the gateway's settings have it."""
    return {
        NAME: {
            "issuer": _ISSUER,
            "audience": _AUDIENCE,
            "jwks_file": keys,
            "app_claim": _APP_CLAIM,
            "algorithms": ["ES256"],
        }
    }


def _issued(apps: tuple[DemoApp, ...], now: int, key: ec.EllipticCurvePrivateKey) -> Iterator[UserToken]:
    for app in apps:
        for user in app.users[:_USERS]:
            claims = {
                "iss": _ISSUER,
                "aud": _AUDIENCE,
                "sub": user,
                _APP_CLAIM: app.id,
                "iat": now,
                "exp": now + _LIFETIME_SECONDS,
                "jti": f"{app.id}-{user}",
            }
            headers = {"kid": _KID, "typ": "at+jwt"}
            yield UserToken(app.id, user, jwt.encode(claims, key, algorithm="ES256", headers=headers))
