"""The base of every declared thing: camelCase outside, frozen, no unknown fields."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

_GIVEN: dict[frozenset[str], set[str]] = {}
_ALIKE = 4096
_OWN_NAMES = 10
"""A dict of more keys than these takes more room, in any CPython, than one that shares them."""


class Strict(BaseModel):
    """A frozen model that refuses unknown fields and reads camelCase keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,  # JSON has neither, and no limit that is one is ever passed
        defer_build=True,  # of many installed mappers a runtime uses one or two
    )

    def model_post_init(self, context: Any, /) -> None:
        """Things that were given the same fields share the set of their names: it is 216 bytes."""
        if len(_GIVEN) > _ALIKE:
            _GIVEN.clear()
        given = self.__pydantic_fields_set__
        object.__setattr__(self, "__pydantic_fields_set__", _GIVEN.setdefault(frozenset(given), given))


@functools.lru_cache(_ALIKE, typed=True)
def _alike(value: str | int) -> str | int:
    """The first object that was equal: a hundred units of one gateway name its host."""
    return value


class Numerous(Strict):
    """A model of which one is kept for each device: what is equal in thousands of them is there once.

    Attributes that are set one by one share their names with those of all others of the class (PEP 412,
    key-sharing dictionaries). Pydantic sets them at once, as a dict with names of its own: 250 bytes more
    for 15 fields.
    """

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        values = {n: _alike(v) if isinstance(v, (str, int)) else v for n, v in vars(self).items()}
        if len(values) > _OWN_NAMES:
            object.__delattr__(self, "__dict__")
        for name, value in values.items():
            object.__setattr__(self, name, value)


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong, and where, in words."""
    finding = error.errors(include_url=False)[0]
    place = ".".join(map(str, finding["loc"]))
    message = finding["msg"].removeprefix("Value error, ")
    if finding["type"] == "extra_forbidden":
        message = "there is no such field"
    return f"{place}: {message}" if place else message


@dataclass(frozen=True, slots=True)
class Protocol:
    """The shapes that an installed mapper brings."""

    endpoint: type[Strict]
    address: type[Strict]
    command: type[Strict] | None = None  # of a call's address
    event: type[Strict] | None = None  # of an event source's address
