"""A secret leaves only through `reveal`."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import msgspec
import pytest

from gateway.keys.secret import Secret

TOKEN = "xk5Tq0aVb81LmZc.canary"
SECRET = Secret(TOKEN)


def test_reveal_gives_the_token() -> None:
    assert SECRET.reveal() == TOKEN


@pytest.mark.parametrize(
    "shown",
    [
        str(SECRET),
        repr(SECRET),
        f"{SECRET}",
        f"{SECRET:>80}",
        f"{SECRET!r}",
        "%s" % SECRET,  # noqa: UP031 - this way of formatting too
        "{}".format(SECRET),  # noqa: UP032
        repr([SECRET]),
        repr({"token": SECRET}),
        pickle.dumps(SECRET).decode("latin-1"),
        pickle.loads(pickle.dumps(SECRET)).reveal(),
        copy.copy(SECRET).reveal(),
        copy.deepcopy({"token": SECRET})["token"].reveal(),
        logging.LogRecord("x", 0, "", 0, "%s", (SECRET,), None).getMessage(),
    ],
)
def test_no_way_of_formatting_or_copying_shows_it(shown: str) -> None:
    assert "canary" not in shown
    assert "[redacted]" in shown


def test_encoders_refuse_it() -> None:
    with pytest.raises(TypeError):
        json.dumps({"token": SECRET})
    with pytest.raises(TypeError):
        msgspec.json.encode({"token": SECRET})


def test_a_traceback_with_locals_does_not_show_it() -> None:
    def fails(token: Secret) -> None:
        raise ValueError

    try:
        fails(SECRET)
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())

    assert "[redacted]" in shown
    assert "canary" not in shown.replace("TOKEN", "").replace(repr(TOKEN), "")


def test_it_has_no_dict_to_look_into() -> None:
    assert not hasattr(SECRET, "__dict__")
