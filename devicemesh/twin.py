"""The twin, pure: desired x reported x model -> writes, and conditions in words.

Policy: an edit of `desired` is written once. After a restart or a reconnect the device is read first, and
written only where it differs. A value that changes on the device afterwards (somebody at its panel) is
reported, not fought: the condition says `Drifted`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from devicemesh.mapper import Quality
from devicemesh.spec.device import Property
from devicemesh.spec.units import symbol

State = Literal["applied", "refused", "failed", "waiting"]


@dataclass(frozen=True, slots=True)
class Reported:
    """What the device says."""

    value: Any
    time_ns: int
    quality: Quality

    @property
    def good(self) -> bool:
        return self.quality < Quality.BAD


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one desired value."""

    value: Any  # the one desired then
    state: State
    time_ns: int
    reason: str = ""  # CamelCase word
    message: str = ""
    retry_s: float = 0.0  # failed: when to try again, by the loop's clock
    pause_s: float = 0.0  # failed: how long that is after it

    def repeats(self, before: Attempt | None) -> bool:
        """Whether it fails as the one before did."""
        if before is None or before.state != "failed" or self.state != "failed":
            return False
        return before.reason == self.reason and same(before.value, self.value)


@dataclass(frozen=True, slots=True)
class Delta:
    """What to do about the desired values now."""

    writes: Mapping[str, Any]
    settled: Mapping[str, Attempt]  # known without a write: refused by the model, or already so


@dataclass(frozen=True, slots=True)
class Condition:
    """A Kubernetes condition without its times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def same(wanted: Any, got: Any) -> bool:
    """Whether a device that says `got` holds `wanted`; floats are compared within float32's precision.

    So are those inside lists and objects.
    """
    if isinstance(wanted, int) and isinstance(got, int) and not isinstance(wanted, bool):
        return wanted == got and not isinstance(got, bool)
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    if isinstance(wanted, int | float) and isinstance(got, int | float):
        return wanted == got or _near(wanted, got)
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(same, wanted, got))
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(same(one, got[name]) for name, one in wanted.items())
    return bool(wanted == got)


def _near(one: float, other: float) -> bool:
    try:
        return math.isclose(one, other, rel_tol=2e-7, abs_tol=1e-9)
    except OverflowError:  # an integer inside JSON, of more digits than any float has
        return False


def delta(
    properties: Mapping[str, Property],
    desired: Mapping[str, Any],
    nearest: Mapping[str, Any],
    reported: Mapping[str, Reported],
    attempts: Mapping[str, Attempt],
    edited: frozenset[str],
    now_ns: int,
    clock_s: float = 0.0,
) -> Delta:
    """Which desired values to write now: `now_ns` stamps, `clock_s` says what is due.

    `nearest` has the desired values as a device reports them that holds them; `edited` names those that a
    person has just set: they are written unasked.
    """
    writes: dict[str, Any] = {}
    settled: dict[str, Attempt] = {}
    for name, value in desired.items():
        last = attempts.get(name)
        if last is not None and same(last.value, value) and name not in edited and last.state != "waiting":
            silent = (
                name in properties and properties[name].access != "WriteOnly" and not _good(reported, name)
            )
            if last.state != "failed" or clock_s < last.retry_s or silent:
                continue  # a device that does not answer its reads is not asked to take writes
            current = reported.get(name)
            if current is not None and current.time_ns > last.time_ns and same(nearest[name], current.value):
                settled[name] = Attempt(value, "applied", now_ns)
                continue  # it has been done after all
        elif refusal := _refusal(properties, name, value):
            settled[name] = Attempt(value, "refused", now_ns, refusal[0], refusal[1])
            continue
        elif name not in edited and properties[name].access != "WriteOnly":
            current = reported.get(name)
            if current is None or not current.good:
                continue  # read first; until then it waits
            if same(nearest[name], current.value):
                settled[name] = Attempt(value, "applied", now_ns)
                continue
        writes[name] = value
    return Delta(writes, settled)


def _good(reported: Mapping[str, Reported], name: str) -> bool:
    return name in reported and reported[name].good


def _refusal(properties: Mapping[str, Property], name: str, value: Any) -> tuple[str, str] | None:
    """(reason, message) why the model refuses a value, or None."""
    prop = properties.get(name)
    if prop is None:
        return "UnknownProperty", f"the model has no property `{name}`"
    message = prop.refusal(value)
    if message is None:
        return None
    if prop.access == "ReadOnly":
        return "ReadOnly", message
    return ("OutOfRange" if "imum" in message else "WrongType"), message


def text(value: Any, unit: str | None) -> str:
    """A value with its unit, for people."""
    is_json = isinstance(value, bool | list | dict)
    shown = json.dumps(value, ensure_ascii=False, default=str) if is_json else f"{value}"
    return f"{shown} {symbol(unit)}".rstrip() if unit else shown


def desired_applied(
    properties: Mapping[str, Property],
    desired: Mapping[str, Any],
    nearest: Mapping[str, Any],
    reported: Mapping[str, Reported],
    attempts: Mapping[str, Attempt],
    *,
    connected: bool,
) -> Condition:
    """The DesiredApplied condition: the worst of all desired values, each named."""
    trouble: list[tuple[str, str]] = []
    for name, value in desired.items():
        last = attempts.get(name)
        unit = properties[name].unit if name in properties else None
        if last is None or not same(last.value, value) or last.state == "waiting":
            why = "waits for a reading" if connected else "waits for the link"
            trouble.append(("Waiting", f"{name}: {why}"))
        elif last.state in ("refused", "failed"):
            trouble.append((last.reason, f"{name}: {last.message}"))
        elif (
            (now := reported.get(name))
            and now.good
            and now.time_ns > last.time_ns
            and not same(nearest[name], now.value)
        ):
            message = f"{name}: the device says {text(now.value, unit)}, desired is {text(value, unit)}"
            trouble.append(("Drifted", message))
    if trouble:
        return Condition("DesiredApplied", "False", trouble[0][0], "; ".join(m for _, m in trouble))
    if not desired:
        return Condition("DesiredApplied", "True", "NothingDesired", "")
    return Condition("DesiredApplied", "True", "Applied", f"{len(desired)} of {len(desired)} applied")


def overruled(applied: Condition, lost: Mapping[str, str]) -> Condition:
    """The DesiredApplied condition, telling whoever set a value that did not hold."""
    if not lost:
        return applied
    told = "; ".join(f"{name}: {why}" for name, why in sorted(lost.items()))
    if applied.status == "True":
        return Condition(applied.type, "True", "Overruled", told)
    return Condition(applied.type, applied.status, applied.reason, f"{applied.message}; {told}")


def progress(ready: Condition, applied: Condition | None, *, stuck: bool, trying: bool) -> list[Condition]:
    """Stalled or Reconciling where one holds, for tools that follow kstatus; else neither is there.

    `stuck`: nothing changes without an edit; `trying`: something that was declared is still on its way.
    """
    if stuck:
        cause = ready if applied is None or ready.status != "True" else applied
        return [Condition("Stalled", "True", cause.reason, cause.message)]
    waits = applied is not None and applied.reason == "Waiting"
    if not (waits or trying or ready.status == "Unknown"):
        return []
    cause = applied if applied is not None and ready.status == "True" else ready
    return [Condition("Reconciling", "True", cause.reason, cause.message)]


def connected(reported: Sequence[Reported], link_up: bool, why: tuple[str, str] | None) -> Condition:
    """The Connected condition: does the device itself answer? `why` is (reason, message) when it does not."""
    if not link_up:
        reason, message = why or ("Connecting", "the link is being opened")
        return Condition("Connected", "False", reason, message)
    if any(r.quality not in (Quality.NO_LINK, Quality.NO_ANSWER, Quality.PENDING) for r in reported):
        return Condition("Connected", "True", "Answering", "")
    if not reported or all(r.quality == Quality.PENDING for r in reported):
        return Condition("Connected", "Unknown", "Starting", "not read yet")
    reason, message = why or ("NoAnswer", "the device does not answer")
    return Condition("Connected", "False", reason, message)


def degraded(
    reported: Mapping[str, Reported], why: Mapping[str, str], deaf: Mapping[str, str] | None = None
) -> Condition:
    """The Degraded condition: it answers, but some of its values are bad. Equal reasons are said once.

    `deaf` has the sources of events that can't be heard, and why.
    """
    bad = [name for name, r in reported.items() if not r.good and r.quality != Quality.PENDING]
    if not bad:
        if deaf:
            told = "; ".join(f"{name}: {reason}" for name, reason in list(deaf.items())[:5])
            return Condition("Degraded", "True", "NoEvents", told)
        return Condition("Degraded", "False", "AllGood", "")
    reasons: dict[str, list[str]] = {}
    for name in bad:
        reasons.setdefault(why.get(name) or reported[name].quality.word, []).append(name)
    details = [
        f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}: {r}" for r, names in reasons.items()
    ]
    more = f"; and {len(details) - 5} more reasons" if len(details) > 5 else ""
    return Condition("Degraded", "True", "BadValues", "; ".join(details[:5]) + more)


def ready(model: Condition, link: Condition, health: Condition, served: str = "Polling") -> Condition:
    """The Ready condition, the sum of the others (desired values aside: they are asked for, not had).

    `served`: how its values come, in a word.
    """
    if model.status != "True":
        return Condition("Ready", "False", model.reason, model.message)
    if link.status != "True":
        return Condition("Ready", link.status, link.reason, link.message)
    if health.status == "True":
        return Condition("Ready", "True", "Degraded", health.message)
    return Condition("Ready", "True", served, "")
