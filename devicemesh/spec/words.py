"""Pydantic's findings in our words: one sentence per kind of mistake, with the value."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from devicemesh.spec.places import Document, Problem

_ARTICLES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a map of keys and values",
    "model_type": "a map of keys and values",
    "model_attributes_type": "a map of keys and values",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def suggest(word: object, known: Iterable[str]) -> str:
    """`did you mean ...?`, or nothing when nothing is near."""
    near = difflib.get_close_matches(str(word), list(known), 1, 0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def problems(
    document: Document, error: ValidationError, model: type[BaseModel], prefix: tuple[int | str, ...] = ()
) -> Iterator[Problem]:
    """Each finding at its place; `prefix` leads from the document to what was validated."""
    found = error.errors(include_url=False)
    extra = [e for e in found if e["type"] == "extra_forbidden"]
    for finding in found:
        loc = tuple(finding["loc"])
        if finding["type"] == "too_short" and any(
            e["loc"][: len(loc)] == loc and e["loc"] != loc for e in found
        ):
            continue  # the entries are there, but wrong
        if finding["type"] == "missing" and _misspelt(loc, extra):
            continue  # the misspelt neighbour already says it
        yield _problem(document, dict(finding), model, prefix, loc)


def _misspelt(loc: tuple[Any, ...], extra: list[Any]) -> bool:
    return any(
        e["loc"][:-1] == loc[:-1] and difflib.get_close_matches(str(e["loc"][-1]), [str(loc[-1])], 1, 0.6)
        for e in extra
    )


def _problem(
    document: Document,
    finding: dict[str, Any],
    model: type[BaseModel],
    prefix: tuple[int | str, ...],
    loc: tuple[Any, ...],
) -> Problem:
    full = prefix + loc
    kind, value, context = finding["type"], finding.get("input"), finding.get("ctx", {})
    owner = next((str(p) for p in reversed(full[:-1]) if isinstance(p, str)), str(model.__name__))
    if kind == "extra_forbidden":
        known = _fields(model, loc[:-1])
        help_ = suggest(loc[-1], known) or (f"known here: {', '.join(known)}" if known else "")
        return document.problem(
            document.key_at(full), "unknown-field", f"`{loc[-1]}` is not a field of `{owner}`", help_
        )
    if kind == "missing":
        return document.problem(document.key_at(full[:-1]), "missing-field", f"`{owner}` needs `{loc[-1]}`")
    node = document.at(full)
    name = next((str(p) for p in reversed(full) if isinstance(p, str)), owner)
    if kind in ("literal_error", "enum"):
        words = _expected(finding)
        help_ = suggest(value, words) or f"one of {', '.join(words)}"
        return document.problem(node, "unknown-word", f"`{value}` is not a {name}", help_)
    if kind in _ARTICLES:
        quoted = f'write "{node.value}"' if kind == "string_type" and _is_bare(value) else ""
        return document.problem(
            node, "wrong-type", f"`{name}` must be {_ARTICLES[kind]}, not {_shown(value)}", quoted
        )
    if kind in _BOUNDS:
        key, words_ = _BOUNDS[kind]
        return document.problem(
            node, "out-of-range", f"`{name}` must be {words_} {context[key]:g}, not {_shown(value)}"
        )
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length", context.get("max_length"))
        bound = "at least" if kind == "too_short" else "at most"
        return document.problem(
            node, "wrong-length", f"`{name}` needs {bound} {limit} entr{'y' if limit == 1 else 'ies'}"
        )
    message = str(finding["msg"]).removeprefix("Value error, ")
    head, _, help_ = message.partition(": did you mean ")
    return document.problem(node, "wrong-value", head, f"did you mean {help_}" if help_ else "")


def _expected(finding: dict[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(finding.get("ctx", {}).get("expected", "")))


def meant(finding: dict[str, Any]) -> str | None:
    """The word that a misspelt one was probably meant to be."""
    if finding["type"] not in ("literal_error", "enum"):
        return None
    return next(iter(difflib.get_close_matches(str(finding.get("input")), _expected(finding), 1, 0.6)), None)


def _is_bare(value: Any) -> bool:
    """Whether text was given that YAML takes for something else."""
    return isinstance(value, bool | int | float)


def _shown(value: Any) -> str:
    text = (
        "nothing"
        if value is None
        else repr(value)
        if isinstance(value, str | int | float)
        else type(value).__name__
    )
    text = {"dict": "a map", "list": "a list", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(model: Any, loc: tuple[Any, ...]) -> list[str]:
    """The field names that are known at a path below a model."""
    here = model
    for part in loc:
        if isinstance(part, int):
            here = next(iter(typing.get_args(here)), here)
            continue
        if not (isinstance(here, type) and issubclass(here, BaseModel)):
            return []
        field = next((f for n, f in here.model_fields.items() if (f.alias or n) == part), None)
        if field is None:
            return []
        here = field.annotation
        options = [a for a in typing.get_args(here) if a is not type(None)]
        if len(options) == 1 and type(None) in typing.get_args(here):
            here = options[0]
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [f.alias or n for n, f in here.model_fields.items()]
    return []
