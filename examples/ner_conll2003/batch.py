"""Packs rows into the tensors that the tagger reads: words flat, sentences padded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Several windows. N words over all of them, S sentences, T words in the longest."""

    pieces: Tensor  # (P,) of all windows, end to end
    piece_lengths: Tensor  # (windows,): how many are of each
    piece_places: Tensor  # places in pieces of all pieces of core words
    piece_words: Tensor  # ... and the word, of N, that each belongs to
    letters: Tensor  # (N, letters)
    shapes: Tensor  # (N,)
    places: Tensor  # (N,)
    vectors: Tensor  # (N,): places of word vectors
    slots: Tensor  # (N,): flat places in (S, T)
    tags: Tensor  # (S, T)
    mask: Tensor  # (S, T), true on words
    lengths: Tensor  # (S,), on the CPU because packing wants it there

    @classmethod
    def of(cls, rows: Mapping[str, Tensor]) -> Batch:
        """Drop all padding of rows as `encode.to_rows` lays them out."""
        used = rows["pieces"] != 0
        owners = rows["owners"].long()
        numbers = rows["sentences"].long()
        real = numbers > 0
        words = real.sum(1)
        before = torch.cumsum(words, 0) - words
        piece_words = (owners - 1 + before.unsqueeze(1))[used]
        owned = owners[used] > 0

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
            pieces=rows["pieces"][used].long(),
            piece_lengths=used.sum(1),
            piece_places=owned.nonzero().squeeze(1),
            piece_words=piece_words[owned],
            letters=rows["letters"][real].long(),
            shapes=rows["shapes"][real].long(),
            places=rows["places"][real].long(),
            vectors=rows["vectors"][real].long(),
            slots=slots,
            tags=tags.view(len(lengths), longest),
            mask=steps < lengths.unsqueeze(1),
            lengths=lengths.cpu(),
        )
