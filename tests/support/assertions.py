"""Keys that sign for upstreams, in files as a gateway takes them, and a look at what it signed."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def write_key(file: Path) -> Path:
    """A new key that the gateway takes."""
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    return file


def jwks_of(admin_port: int) -> dict[str, Any]:
    """What the admin listener publishes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/.well-known/jwks.json", timeout=5) as answer:
        published: dict[str, Any] = json.load(answer)
        return published


def kids_of(admin_port: int) -> list[str]:
    """The ids of the keys that it publishes."""
    return [entry["kid"] for entry in jwks_of(admin_port)["keys"]]


def signed_by(token: bytes) -> str:
    """The id of the key that a token says it was signed with."""
    return str(jwt.get_unverified_header(token.decode())["kid"])


def claims_of(token: bytes, jwks: dict[str, Any], audience: str, now: float) -> dict[str, Any]:
    """What `token` says, to an upstream that checks everything about it at `now`."""
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(jwks).keys}
    claims: dict[str, Any] = jwt.decode(
        token.decode(),
        keys[signed_by(token)],
        algorithms=["ES256"],
        audience=audience,
        issuer="bearergate",
        options={"require": ["iss", "aud", "iat", "exp"], "verify_exp": False, "verify_iat": False},
    )
    # By the gateway's clock, which is a test's.
    assert claims["iat"] <= now < claims["exp"]
    return claims
