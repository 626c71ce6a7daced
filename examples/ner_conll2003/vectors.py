"""Word vectors that were learnt from far more text than any bureau has: GloVe's 400,000 words, 50 numbers each.

They tell of names that no bureau has trained on which known names they are used like (Pennington, Socher and Manning,
GloVe: Global Vectors for Word Representation, EMNLP 2014; vectors glove.6B, in the public domain). They stay as
published: words are looked up when articles are read, and neither an update nor a served model grows by them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from pyarrow import parquet

from . import packages

VECTOR_WIDTH = 50
EDGES = ".,'-"  # what is dropped at both ends of a word that has no vector as it stands
Vector = npt.NDArray[np.float32]


def word_vectors() -> Callable[[str], Vector]:
    """Give each word its vector as published, (50,); zeros where it has none."""
    data = packages.word_vectors() / "data"
    words = parquet.read_table(data / "glove_6B_index.parquet").column("index").to_pylist()
    known = {word: place for place, word in enumerate(words)}
    # Mapped, so that sites on one machine share it.
    table = np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r")
    unknown = np.zeros(VECTOR_WIDTH, np.float32)

    @cache
    def vector(word: str) -> Vector:
        low = word.lower()
        place = known.get(low, known.get(low.strip(EDGES)))
        return unknown if place is None else table[place]

    return vector
