"""Word vectors that were learnt from far more text than any bureau has: GloVe's 400,000 words, 50 numbers each.

They tell of names that no bureau has trained on which known names they are used like (Pennington, Socher and Manning,
GloVe: Global Vectors for Word Representation, EMNLP 2014; vectors glove.6B, in the public domain). They stay as
published, so an update does not grow by them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from pyarrow import parquet
from torch import Tensor, nn

from . import packages

VECTOR_WIDTH = 50
EDGES = ".,'-"  # what is dropped at both ends of a word that has no vector as it stands


def places() -> Callable[[str], int]:
    """Give each word the place of its vector, from 1; 0 is for words without one."""
    index = packages.word_vectors() / "data" / "glove_6B_index.parquet"
    words = parquet.read_table(index).column("index").to_pylist()
    known = {word: place for place, word in enumerate(words, start=1)}

    @cache
    def place(word: str) -> int:
        low = word.lower()
        return known.get(low) or known.get(low.strip(EDGES), 0)

    return place


class WordVectors(nn.Module):
    """The published vectors by their places, and zeros for 0. Neither trained nor part of what is saved."""

    def __init__(self) -> None:
        super().__init__()
        # Mapped, so that sites on one machine share it.
        numbers = packages.word_vectors() / "data" / "glove_6B_50d_emb.npy"
        table = np.load(numbers, mmap_mode="c")
        self.table: Tensor
        self.register_buffer("table", torch.from_numpy(table), persistent=False)

    def forward(self, places: Tensor) -> Tensor:
        """(words,) -> (words, 50)."""
        found = nn.functional.embedding((places - 1).clamp(min=0), self.table)
        return found * (places > 0).unsqueeze(1)
