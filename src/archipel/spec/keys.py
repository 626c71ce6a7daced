"""Checks of a parsed TOML document before it becomes a value: unknown keys, numbers that are none, laid-over tables.

refuse_non_finite(document, "job.toml")
refuse_unknown(document, JobSpec, "job.toml")        # names the nearest key that exists
"""

from __future__ import annotations

import math
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec

from archipel.spec.errors import SpecError, UnknownNameError


def refuse_non_finite(value: Any, where: str) -> None:
    """Refuse TOML's inf and nan: neither bounds nor rates mean anything with them, and JSON cannot carry them."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where} is {value}", hint="give a finite number, or leave the key out")
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_non_finite(inner, f"{where} [{key}]")
    if isinstance(value, list):
        for inner in value:
            refuse_non_finite(inner, where)


def overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Lay the tables of `top` over those of `base`, key by key."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def refuse_unknown(document: dict[str, Any], struct: type[msgspec.Struct], where: str) -> None:
    """Refuse keys that `struct`, or a struct within it, does not have.

    Raises:
        UnknownNameError: the hint names the nearest key.
    """
    _refuse_others(document, {item.name: item.type for item in msgspec.structs.fields(struct)}, where)


def _refuse_others(document: dict[str, Any], fields: dict[str, Any], where: str) -> None:
    for key, value in document.items():
        if key not in fields:
            raise UnknownNameError.of(f"key in {where}:", key, fields)
        _descend(value, fields[key], f"{where} [{key}]")


def _descend(value: Any, kind: Any, where: str) -> None:
    """Refuse unknown keys in a table that `kind` says is a struct, one of several, or tables of structs."""
    if isinstance(value, list) and get_origin(kind) is tuple:
        for inner in value:
            _descend(inner, get_args(kind)[0], where)
    if not isinstance(value, dict):
        return
    choices = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    structs = [one for one in choices if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    if len(structs) == 1:
        refuse_unknown(value, structs[0], where)
    elif structs:
        _descend_one_of(value, structs, where)
    elif get_origin(kind) is dict:
        for name, inner in value.items():
            _descend(inner, get_args(kind)[1], f"{where} [{name}]")


def _descend_one_of(value: dict[str, Any], structs: list[type[msgspec.Struct]], where: str) -> None:
    """Refuse keys that the struct named by the table's tag does not have; without a tag (a preset), that none has."""
    tag = str(structs[0].__struct_config__.tag_field)
    known = {str(struct.__struct_config__.tag): struct for struct in structs}
    named = str(value.get(tag, ""))
    if tag in value and named not in known:
        raise UnknownNameError.of(f"{tag} in {where}:", named, known)
    possible = [known[named]] if tag in value else structs
    fields = {item.name: item.type for struct in possible for item in msgspec.structs.fields(struct)}
    told = f"{where} with {tag} {named!r}" if tag in value else where
    _refuse_others(value, {**fields, tag: str}, told)


def misfit(where: str, error: msgspec.ValidationError, schema: str) -> SpecError:
    """Return what a value of the wrong kind in a document is to people; `schema` prints what each key takes."""
    wrong = error.__cause__.__cause__ if error.__cause__ else None
    if isinstance(wrong, SpecError):  # a quantity, which says more
        return type(wrong)(f"{where}: {error}", hint=wrong.hint)
    return SpecError(f"{where}: {error}", hint=f"`{schema}` prints what each key takes")
