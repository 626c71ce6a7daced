"""An algorithm's options, checked: [federation] options = {...} in, a frozen struct out.

    class Options(Value, frozen=True, kw_only=True):
        mu: Annotated[float, Meta(ge=0)] = 0.01

    read_options("fedprox", {"mu": 0.1}, Options).mu    # 0.1

An option nobody knows is refused with the nearest name, a value out of range with the range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from archipel.spec import SpecError, UnknownNameError, Value

T = TypeVar("T", bound=Value)


def read_options(algorithm: str, options: Mapping[str, float], type_: type[T]) -> T:
    """Return `options` as `type_`.

    Raises:
        UnknownNameError: an option the algorithm does not have.
        SpecError: a value out of range.
    """
    known = [item.name for item in msgspec.structs.fields(type_)]
    for name in options:
        if name not in known:
            if not known:
                raise UnknownNameError(
                    f"{algorithm} has no options, found {name!r}", hint="remove it from the job file"
                )
            raise UnknownNameError.of(f"option of {algorithm}:", name, known)
        if not math.isfinite(options[name]):
            # TOML can say nan and inf, and a lower bound lets inf through.
            raise SpecError(f"[federation] option {name!r} of {algorithm} is not finite", hint="give a number")
    try:
        return msgspec.convert(dict(options), type_)
    except msgspec.ValidationError as error:
        raise SpecError(f"[federation] options of {algorithm}: {error}", hint="mend the value it names") from error
