"""`timeout:` of a route: how long its upstream may take, in the words of the settings that it can only make shorter."""

from __future__ import annotations

from typing import Final

from gateway.core.policy.routes import RouteTimeouts
from gateway.core.policy.tree import Mapping, Node, Scalar
from gateway.core.policy.values import Meant, Values

TIMEOUT_KEYS: Final = ("request", "response_head", "response_idle")

# Words of other tools, and what they are called here.
_MEANT: Final[dict[str, Meant]] = {
    **dict.fromkeys(("total", "deadline", "all"), Meant("request", "write `request`, from its head to the last byte")),
    **dict.fromkeys(
        ("first_byte", "head", "response", "read"), Meant("response_head", "write `response_head`, until it begins")
    ),
    "idle": Meant("response_idle", "write `response_idle`, between two of its bytes"),
    "connect": Meant("", "it is one for all routes: set `timeouts.connect` where the gateway is configured"),
}


def timeouts_entry(values: Values, node: Node) -> RouteTimeouts | None:
    """What `timeout:` says, or None after a fault. One number is the whole of a request."""
    if isinstance(node, Scalar):
        seconds = values.seconds(node, "timeout")
        return None if seconds is None else RouteTimeouts(seconds)

    members = values.members(node, "`timeout`", TIMEOUT_KEYS, meant=_MEANT)
    if members is None:
        return None
    if isinstance(node, Mapping) and not node.entries:
        values.fault(node.place, "`timeout` says nothing", "write it as `timeout: 10`, or leave it out")
        return None

    read = {key: values.seconds(member[1], key) or 0.0 for key, member in members.items()}
    timeouts = RouteTimeouts(**read)
    for key, seconds in read.items():
        if 0.0 < timeouts.request < seconds:
            values.fault(
                members[key][1].place,
                f"`{key}` is longer than `request`, so it would end nothing",
                "make it shorter, or leave it out",
            )
    return timeouts
