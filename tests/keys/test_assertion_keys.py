"""Keys that sign for upstreams: which files are taken, which key signs, and what everybody may know of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.keys.assertion_keys import MAKE_ONE, AssertionKeys, AssertionKeysInvalid, read_assertion_keys

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def written(
    file: Path, key: Private, *, mode: int = 0o600, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b""
) -> Path:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    file.write_bytes(key.private_bytes(Encoding.PEM, form, encryption))
    file.chmod(mode)
    return file


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def kids(keys: AssertionKeys) -> list[str]:
    return [entry["kid"] for entry in json.loads(keys.jwks)["keys"]]


def refused(path: Path) -> str:
    with pytest.raises(AssertionKeysInvalid) as fault:
        read_assertion_keys(path)
    return str(fault.value).replace(str(path), "PATH")


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_what_it_signs_is_verified_by_what_it_publishes(tmp_path: Path, form: PrivateFormat, mode: int) -> None:
    keys = read_assertion_keys(written(tmp_path / "key.pem", new_key(), form=form, mode=mode))

    token = keys.sign(b'{"aud":"orders","user_id":"u-1"}').decode()

    header = jwt.get_unverified_header(token)
    (public,) = jwt.PyJWKSet.from_dict(json.loads(keys.jwks)).keys
    assert {"alg": "ES256", "kid": public.key_id, "typ": "JWT"} == header
    assert {"aud": "orders", "user_id": "u-1"} == jwt.decode(token, public, algorithms=["ES256"], audience="orders")


def test_nothing_private_is_published(tmp_path: Path) -> None:
    keys = read_assertion_keys(written(tmp_path / "key.pem", new_key()))

    (entry,) = json.loads(keys.jwks)["keys"]
    assert {"kty", "crv", "x", "y", "kid", "alg", "use"} == entry.keys()
    assert ("EC", "P-256", "ES256", "sig") == (entry["kty"], entry["crv"], entry["alg"], entry["use"])


def test_the_id_of_a_key_is_its_thumbprint() -> None:
    # The key of RFC 7515, appendix A.3, and what `sha256sum` makes of the text that RFC 7638, 3.2 prescribes.
    numbers = ec.EllipticCurvePrivateNumbers(
        int.from_bytes(jwt.utils.base64url_decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"), "big"),
        ec.EllipticCurvePublicNumbers(
            int.from_bytes(jwt.utils.base64url_decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"), "big"),
            int.from_bytes(jwt.utils.base64url_decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"), "big"),
            ec.SECP256R1(),
        ),
    )

    assert ["oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"] == kids(AssertionKeys([numbers.private_key()]))


def test_a_number_that_begins_with_zeros_keeps_them() -> None:
    # RFC 7518, 6.2.1.2: always 32 bytes. A key whose x is shorter comes once in 256.
    key = next(key for key in iter(new_key, None) if key.public_key().public_numbers().x < 1 << 248)

    (entry,) = json.loads(AssertionKeys([key]).jwks)["keys"]

    assert len(entry["x"]) == len(entry["y"]) == 43


def test_in_a_folder_the_first_by_name_signs_and_all_are_published(tmp_path: Path) -> None:
    made = {name: new_key() for name in ("2.pem", "1.pem", "3.pem")}
    for name, key in made.items():
        written(tmp_path / name, key)
    (tmp_path / "README").write_text("not a key")
    (tmp_path / "..2027_01.pem").mkdir()  # what Kubernetes leaves in a mounted folder

    keys = read_assertion_keys(tmp_path)

    expected = [kids(AssertionKeys([made[name]]))[0] for name in sorted(made)]
    assert expected == kids(keys)
    assert expected[0] == jwt.get_unverified_header(keys.sign(b"{}").decode())["kid"]


def test_a_key_that_is_there_twice_is_published_once(tmp_path: Path) -> None:
    shutil.copy(written(tmp_path / "1.pem", new_key()), tmp_path / "2.pem")
    (tmp_path / "2.pem").chmod(0o600)

    assert len(kids(read_assertion_keys(tmp_path))) == 1


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o601])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path / "key.pem", new_key(), mode=mode)

    assert "`PATH` is open to every user of the machine; run `chmod o= PATH`" == refused(file)


def test_one_bad_file_refuses_the_folder(tmp_path: Path) -> None:
    written(tmp_path / "1.pem", new_key())
    written(tmp_path / "2.pem", new_key(), mode=0o644)

    assert "2.pem` is open to every user" in refused(tmp_path)


@pytest.mark.parametrize(
    ("key", "password", "said"),
    [
        (ec.generate_private_key(ec.SECP384R1()), b"", "is a key of another kind than P-256"),
        (ec.generate_private_key(ec.SECP256K1()), b"", "is a key of another kind than P-256"),
        (rsa.generate_private_key(65537, 2048), b"", "is a key of another kind than P-256"),
        (new_key(), b"open sesame", "has a password; store the key without one"),
    ],
)
def test_another_kind_of_key_is_refused(tmp_path: Path, key: Private, password: bytes, said: str) -> None:
    assert said in refused(written(tmp_path / "key.pem", key, password=password))


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_and_not_quoted(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(text)
    file.chmod(0o600)

    assert f"`PATH` holds no private key in PEM; make one with `{MAKE_ONE}`" == refused(file)


def test_the_public_half_alone_cannot_sign(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(new_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    file.chmod(0o600)

    assert "holds no private key" in refused(file)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    assert "`PATH` cannot be read: No such file or directory" == refused(tmp_path / "none.pem")
    assert f"there is no `*.pem` in `PATH`; make a key with `{MAKE_ONE} -out PATH/1.pem`" == refused(tmp_path)


def test_the_command_that_is_told_makes_a_key_that_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    subprocess.run([*MAKE_ONE.split(), "-out", str(file)], check=True, capture_output=True)
    file.chmod(0o600)

    assert len(kids(read_assertion_keys(file))) == 1
