"""The policy as a gateway takes it: read, compiled whole, and in keeping with the settings."""

from __future__ import annotations

import logging
from typing import Final

from gateway.assembly import CannotStart
from gateway.core.policy.faults import PolicyInvalid
from gateway.core.policy.routes import Policy
from gateway.policy_files import compile_texts, read_texts
from gateway.settings import Settings

_LOG: Final = logging.getLogger("bearergate")

PolicyTexts = list[tuple[str, bytes]]
"""Each policy file by its name, as it was read."""


def policy_texts(settings: Settings) -> PolicyTexts:
    """What the policy's files hold now. Raises: CannotStart"""
    try:
        return read_texts(settings.policy)[1]
    except PolicyInvalid as fault:
        raise CannotStart("\n".join(str(line) for line in fault.faults)) from fault


def usable_policy(texts: PolicyTexts, settings: Settings) -> Policy:
    """The policy of these texts, when the settings have what it needs. Raises: CannotStart"""
    try:
        policy, _ = compile_texts(texts)
    except PolicyInvalid as fault:
        raise CannotStart("\n".join(str(line) for line in fault.faults)) from fault
    check_upstreams(policy, settings)
    check_timeouts(policy, settings)
    check_assertions(policy, settings)
    return policy


def check_upstreams(policy: Policy, settings: Settings) -> None:
    missing = sorted(policy.upstreams - settings.upstreams.keys())
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise CannotStart(
            f"the policy sends requests to {names}, and the settings do not locate it; "
            f"add `--upstream {missing[0]}=http://host:port`"
        )
    for name in sorted(settings.upstreams.keys() - policy.upstreams):
        _LOG.warning("upstream `%s` is located by the settings, and no route of the policy sends anything there", name)
    for name in sorted(settings.upstream_options.keys() - settings.upstreams.keys()):
        raise CannotStart(f"upstream_options: there is no upstream `{name}`; `upstreams` has to locate it")


def check_timeouts(policy: Policy, settings: Settings) -> None:
    """A policy makes a configured time-out shorter, never longer. Raises: CannotStart"""
    faults: list[str] = []
    for route in policy.routes:
        own, ours = route.timeouts, settings.timeouts
        if own is None:
            continue
        for name, seconds, most in (
            ("request", own.request, ours.request),
            ("response_head", own.response_head, ours.response_head),
            ("response_idle", own.response_idle, ours.response_idle),
        ):
            if 0.0 < most < seconds:
                faults.append(
                    f"policy: route `{route.name}` has a `timeout` with {seconds:g} s of `{name}`, and the settings "
                    f"allow {most:g} s; make it shorter, or raise `timeouts.{name}`"
                )
    if faults:
        raise CannotStart("\n".join(faults))


def check_assertions(policy: Policy, settings: Settings) -> None:
    """What routes promise their upstreams can be signed. Raises: CannotStart"""
    asking = [route.name for route in policy.routes if route.assertion]
    if asking and settings.assertions.keys is None:
        others = f" (and {len(asking) - 1} more)" if len(asking) > 1 else ""
        raise CannotStart(
            f"policy: route `{asking[0]}`{others} has an `assertion`, and the settings have no key to sign it with; "
            "set `assertions.keys` to a PEM file or a folder of them, or take `assertion` out"
        )
