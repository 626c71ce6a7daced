"""Packs rows into the tensors that the tagger reads: words flat, sentences padded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Several windows. N words over all of them, S sentences, T words in the longest."""

    states: Tensor  # (N, width)
    letters: Tensor  # (N, letters)
    shapes: Tensor  # (N,)
    places: Tensor  # (N,)
    vectors: Tensor  # (N, 50)
    slots: Tensor  # (N,): flat places in (S, T)
    tags: Tensor  # (S, T)
    mask: Tensor  # (S, T), true on words
    lengths: Tensor  # (S,), on the CPU because packing wants it there

    @classmethod
    def of(cls, rows: Mapping[str, Tensor]) -> Batch:
        """Drop all padding of rows as `encode.to_rows` lays them out."""
        numbers = rows["sentences"].long()
        real = numbers > 0

        most = int(numbers.max())
        keys = torch.arange(len(numbers), device=numbers.device).unsqueeze(1) * most + numbers - 1
        _, sentence, lengths = torch.unique_consecutive(keys[real], return_inverse=True, return_counts=True)
        longest = int(lengths.max())
        starts = torch.cumsum(lengths, 0) - lengths
        inside = torch.arange(len(sentence), device=sentence.device) - starts[sentence]
        slots = sentence * longest + inside
        tags = torch.zeros(len(lengths) * longest, dtype=torch.long, device=slots.device)
        tags[slots] = rows["tags"].long()[real]
        steps = torch.arange(longest, device=slots.device)
        return cls(
            states=rows["states"][real].float(),
            letters=rows["letters"][real].long(),
            shapes=rows["shapes"][real].long(),
            places=rows["places"][real].long(),
            vectors=rows["vectors"][real],
            slots=slots,
            tags=tags.view(len(lengths), longest),
            mask=steps < lengths.unsqueeze(1),
            lengths=lengths.cpu(),
        )
