"""The tagger: what a frozen encoder says of each word, word vectors, shapes and letters, a BiLSTM and a CRF."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .batch import Batch
from .conll import TAGS
from .crf import Crf
from .encode import ALPHABET, PLACES, SHAPES
from .encoder import WIDTH
from .vectors import VECTOR_WIDTH


class Letters(nn.Module):
    """Convolutions over a word's cased letters, the strongest answer of each kept."""

    def __init__(self, width: int = 32, filters: int = 64) -> None:
        super().__init__()
        self.table = nn.Embedding(ALPHABET, width, padding_idx=0)
        self.spans = nn.ModuleList(nn.Conv1d(width, filters, k, padding=k // 2) for k in (3, 5))
        self.size = filters * 2

    def forward(self, letters: Tensor) -> Tensor:
        """(words, letters) -> (words, size)."""
        rows = self.table(letters).transpose(1, 2)
        return torch.cat([torch.relu(span(rows)).amax(2) for span in self.spans], dim=1)


class Tagger(nn.Module):
    """Nine-tag scores for each word, and the CRF that reads them."""

    def __init__(self, *, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.letters = Letters()
        self.shape = nn.Embedding(SHAPES, 32)
        self.place = nn.Embedding(PLACES, 8)
        self.dropout = nn.Dropout(dropout)
        inputs = WIDTH + VECTOR_WIDTH + self.letters.size + 40
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * hidden, len(TAGS))
        self.crf = Crf(TAGS)

    def forward(self, batch: Batch) -> Tensor:
        """Scores, (sentences, longest, tags)."""
        parts = (batch.states, batch.vectors, batch.letters, batch.shapes, batch.places)
        words = self.dropout(self.describe(*parts))
        sentences, longest = batch.tags.shape
        padded = words.new_zeros(sentences * longest, words.shape[1])
        padded = padded.index_copy(0, batch.slots, words).view(sentences, longest, -1)
        packed = pack_padded_sequence(padded, batch.lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        scores: Tensor = self.score(self.dropout(states))
        return scores

    def describe(self, states: Tensor, vectors: Tensor, letters: Tensor, shapes: Tensor, places: Tensor) -> Tensor:
        """Lay all that is known of each word side by side, (words, inputs)."""
        features = (self.norm(states), vectors, self.letters(letters), self.shape(shapes), self.place(places))
        return torch.cat(features, dim=1)

    def tag(self, *parts: Tensor) -> Tensor:
        """Give sentences of one length, nothing padded, their best legal tags: (sentences, words).

        `parts` are what `describe` takes, each (sentences, words, ...).
        """
        sentences, words = parts[0].shape[:2]
        described = self.describe(*(part.flatten(0, 1) for part in parts)).view(sentences, words, -1)
        return self.crf.best(self.score(self.lstm(described)[0]))

    def loss(self, batch: Batch) -> Tensor:
        """Negative log likelihood of each sentence's tags."""
        return self.crf.negative_log_likelihood(self(batch), batch.tags, batch.mask)

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[list[int]]:
        """The best legal tags of each sentence, in order."""
        return self.crf.decode(self(batch), batch.mask)
