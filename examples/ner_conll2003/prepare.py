"""Lays out CoNLL-2003 for a run with local sites: one folder a bureau, whole articles only.

Each bureau gets train.txt, valid.txt and test.txt of its own articles. The files come from you: the text is
Reuters', its licence forbids passing it on, and so it is neither in this repository nor fetched by it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from archipel.spec import DataError, MissingExtraError

from .bureaux import DatelineRule, dirichlet_split
from .conll import Document, read, write
from .encoder_file import encoder_folder

OWN_BUREAU = 25
"""A place with so many training articles is a bureau of its own; see `bureaux`."""
DIRICHLET_SITES = 10
DIRICHLET_ALPHA = 0.5
SEED = 2003
PARTS = {"train": ("eng.train", "train.txt"), "valid": ("eng.testa", "valid.txt"), "test": ("eng.testb", "test.txt")}
HINT = (
    "point --data at a folder that holds eng.train, eng.testa and eng.testb as the shared task distributes them, or "
    "train.txt, valid.txt and test.txt in the same columns (IOB1 or IOB2); "
    "see https://www.clips.uantwerpen.be/conll2003/ner/"
)


def _fill_cache() -> None:
    """Unpack the encoder while it may be written where all bureaux find it: they work in a sandbox."""
    with contextlib.suppress(MissingExtraError):  # said by the task, at the bureau that lacks it
        encoder_folder()


def prepare(target: Path, data: Path | None) -> None:
    """Deal the articles out by dateline."""
    _fill_cache()
    parts = {part: read(path) for part, path in find_files(data).items()}
    rule = DatelineRule.from_training(parts["train"], OWN_BUREAU)
    print(f"rule: a dateline with {OWN_BUREAU} or more training articles is a bureau of its own;")
    print("      other datelines are grouped by region, articles without one go to the desk")
    lay_out(target, {part: rule.split(documents) for part, documents in parts.items()})


def prepare_dirichlet(target: Path, data: Path | None) -> None:
    """Deal the articles out by subject, with Dirichlet shares."""
    _fill_cache()
    parts = {part: read(path) for part, path in find_files(data).items()}
    print(f"rule: Dirichlet({DIRICHLET_ALPHA}) shares of each kind to {DIRICHLET_SITES} bureaux, seed {SEED}")
    lay_out(target, dirichlet_split(parts, DIRICHLET_SITES, DIRICHLET_ALPHA, SEED))


def find_files(data: Path | None) -> dict[str, Path]:
    """Where train, valid and test are, in `data` or a folder directly under it.

    Raises:
        DataError: there is no such folder, or a part is absent.
    """
    if data is None or not data.is_dir():
        raise DataError("CoNLL-2003 is not here" if data is None else f"no folder {data}", hint=HINT)
    missing = ""
    for folder in (data, *sorted(path for path in data.iterdir() if path.is_dir())):
        found = {
            part: path
            for part, names in PARTS.items()
            if (path := next((folder / name for name in names if (folder / name).is_file()), None))
        }
        if len(found) == len(PARTS):
            return found
        missing = missing or ", ".join(f"{' or '.join(PARTS[part])}" for part in PARTS if part not in found)
    raise DataError(f"{data} has no {missing}", hint=HINT)


def lay_out(target: Path, parts: Mapping[str, Mapping[str, Sequence[Document]]]) -> None:
    """Write the folders and print each bureau's articles and words."""
    print(f"{'bureau':20}" + "".join(f"{part:>9}{'words':>9}" for part in parts))
    for bureau in sorted({name for split in parts.values() for name in split}):
        folder = target / bureau
        folder.mkdir(parents=True, exist_ok=True)
        sizes = ""
        for part, split in parts.items():
            documents = split.get(bureau, ())
            write(folder / f"{part}.txt", documents)
            sizes += f"{len(documents):9,}{sum(document.words for document in documents):9,}"
        print(f"{bureau:20}{sizes}")
