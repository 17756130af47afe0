"""The base of every declared thing: camelCase outside, frozen, no unknown fields."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    """A frozen model that refuses unknown fields and reads camelCase keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",
    )


@dataclass(frozen=True, slots=True)
class Protocol:
    """The shapes that an installed mapper brings."""

    endpoint: type[Strict]
    address: type[Strict]
