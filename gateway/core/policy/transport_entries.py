"""What below `graphql:` says in which ways a route may be asked, beside a POST of one request in JSON."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.policy.document import Text, TransportsEntry
from gateway.core.policy.tree import Node
from gateway.core.policy.values import Values

TRANSPORT_KEYS: Final = (
    "get", "persisted", "documents", "documents_only", "batch", "incremental", "subscriptions", "uploads", "forward",
)  # fmt: skip
MOST_IN_BATCH: Final = 100
FORWARDS: Final = ("canonical", "verbatim")

_FLAGS: Final = ("get", "persisted", "documents_only", "incremental", "subscriptions", "uploads")
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.documents\.json")
"""No folder in it: the documents lie beside their policy."""

# Of what comes in these ways, the text that the upstream would match is not among the bytes that came.
_NOT_VERBATIM: Final = ("get", "persisted", "documents", "uploads")


def transports_entry(values: Values, members: dict[str, tuple[Text, Node]]) -> TransportsEntry | None:
    """What `graphql` says of them; None when it says nothing."""
    if not any(key in members for key in TRANSPORT_KEYS):
        return None

    flags = {key: key in members and values.flag(members[key][1], key) is True for key in _FLAGS}
    documents = None
    if "documents" in members:
        rule = "name a file beside the policy that ends in `.documents.json`"
        documents = values.word(members["documents"][1], "documents", _FILE, "app.documents.json", rule)
    elif flags["documents_only"]:
        values.fault(
            members["documents_only"][0].place,
            "`documents_only` without `documents` would refuse everything",
            "add `documents:` with the file that has them, or take it out",
        )
    batch = values.whole_number(members["batch"][1], "batch", MOST_IN_BATCH) if "batch" in members else None
    is_verbatim = False
    if "forward" in members:
        forward = values.choice(members["forward"][1], "forward", FORWARDS)
        is_verbatim = forward is not None and forward.value == "verbatim"
    for key in _NOT_VERBATIM if is_verbatim else ():
        if flags.get(key, key in members):
            values.fault(
                members[key][0].place,
                f"`{key}` and `forward: verbatim` exclude each other",
                "take one of the two out",
            )
    return TransportsEntry(documents=documents, batch=batch or 0, verbatim=is_verbatim, **flags)
