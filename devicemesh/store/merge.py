"""Desired values that were set on both sides while they could not hear each other, pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Policy = Literal["newest", "cloud", "edge"]


@dataclass(frozen=True, slots=True)
class Edit:
    """A desired value that was set here while the server was away; None takes it back."""

    name: str
    value: Any
    base: Any  # what the server had as far as we knew; None: nothing
    time_ns: int
    owner: str


@dataclass(frozen=True, slots=True)
class Merged:
    """What to tell the server, and whom to tell that a value did not hold."""

    send: Mapping[str, Any]
    overruled: Mapping[str, tuple[Any, str]]  # property -> (the value that holds, who lost)


def merge(
    edits: Sequence[Edit], cloud: Mapping[str, Any], edited: Mapping[str, int], policy: Policy
) -> Merged:
    """Bring both sides together.

    A value that the server has as it had it then was not touched there: ours is sent. Where both sides
    changed it, the policy says which one holds. `edited`, in Unix seconds, is `Object.edited`: newest
    compares whole seconds, as fine as a server's are, and an equal second is the server's.
    """
    send: dict[str, Any] = {}
    overruled: dict[str, tuple[Any, str]] = {}
    for edit in edits:
        there = cloud.get(edit.name)
        if there == edit.value:
            continue
        if there == edit.base:
            send[edit.name] = edit.value
            continue
        there_s = edited.get(edit.name, edited.get("", 0))
        ours = policy == "edge" or (policy == "newest" and edit.time_ns // 10**9 > there_s)
        if ours:
            send[edit.name] = edit.value
        lost = (there, "on the server", there_s) if ours else (edit.value, "here", edit.time_ns // 10**9)
        holds = edit.value if ours else there
        overruled[edit.name] = holds, _sentence(*lost, holds, policy)
    return Merged(send, overruled)


def _sentence(value: Any, where: str, at_s: int, holds: Any, policy: Policy) -> str:
    done = "taken back" if value is None else f"{value} was set"
    when = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at_s else "an unknown time"
    rule = {"newest": "the newest", "cloud": "the server's", "edge": "ours"}[policy]
    kept = "nothing" if holds is None else holds
    return f"{done} {where} at {when}, but {kept} holds: {rule} does"
