"""The task that runs at a bureau: its own articles in, a tagger that all bureaux share out.

Everything comes from the bureau's own folder (train.txt, valid.txt, test.txt) and from the encoder that is installed
there. The encoder reads the articles once and stays as published: what is trained, and what travels, are the layers
above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from torch import Tensor, nn

from archipel.data.site_data import SiteData
from archipel.spec import DataError
from archipel.tasks.metrics import Tagging
from archipel.tasks.port import Samples, Split, Sums
from archipel.tasks.torch import TorchTask

from .batch import Batch
from .conll import TAGS, Document, read
from .encode import Rows, Vocabulary, to_rows
from .encoder import CLOSING_PIECE, OPENING_PIECE, UNKNOWN_PIECE, Encoder, pieces
from .model import Tagger
from .vectors import word_vectors


class NewsTagger(TorchTask):
    """Words of news articles to nine IOB2 tags."""

    classes = TAGS
    features = ("states", "vectors", "letters", "shapes", "places")
    outputs = ("tags",)
    dynamic = {name: {1: "words"} for name in features}  # noqa: RUF012
    metrics = "tagging"
    evaluation_rows = 16

    def __init__(self, *, hidden: int = 256, dropout: float = 0.5) -> None:
        self._hidden = hidden
        self._dropout = dropout

    def read(self, site: SiteData, statistics: Sums) -> Split:  # noqa: ARG002 (no statistics are asked for)
        """Let the encoder read the bureau's articles; shortest windows first where nothing is trained on them."""
        read = reader()
        train, valid, test = (read(articles(site, part)) for part in ("train", "valid", "test"))
        return Split(train=train, validation=by_length(valid), test=by_length(test))

    def model(self, statistics: Sums) -> nn.Module:  # noqa: ARG002
        """Build the layers above the encoder."""
        return Tagger(hidden=self._hidden, dropout=self._dropout)

    def scores(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Give each word its tag: what a site serves. A row is a sentence, and none is padded."""
        assert isinstance(model, Tagger)
        states, vectors, *codes = (batch[name] for name in self.features)
        return model.tag(states.float(), vectors, *(code.long() for code in codes))

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the negative log likelihood of a batch's tags, over its words."""
        assert isinstance(model, Tagger)
        packed = Batch.of(batch)
        return model.loss(packed).sum() / packed.mask.sum()

    def score_batch(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Sums:
        """Count words and entities by the best legal tags."""
        assert isinstance(model, Tagger)
        packed = Batch.of(batch)
        true: list[int] = []
        chosen: list[int] = []
        rows = zip(packed.tags.tolist(), packed.lengths.tolist(), model.decode(packed), strict=True)
        for tags, length, best in rows:
            true.extend([*tags[:length], -1])  # the -1 ends the sentence
            chosen.extend([*best, 0])
        return Tagging(TAGS).sums(np.array(chosen), np.array(true))


def reader() -> Callable[[Iterable[Document]], Rows]:
    """Open the encoder and what else is published; return what turns articles into rows by them."""
    encoder = Encoder()
    words = Vocabulary(pieces(), word_vectors(), opening=OPENING_PIECE, closing=CLOSING_PIECE, unknown=UNKNOWN_PIECE)
    return lambda documents: to_rows(documents, words, encoder.read)


def articles(site: SiteData, part: str) -> list[Document]:
    """Return the bureau's articles of a part."""
    path = site.path / f"{part}.txt"
    if not path.is_file():
        hint = "prepare.py lays CoNLL-2003 out for the bureaux; see README.md"
        raise DataError(f"{site.site} has no {path.name}", hint=hint)
    return read(path)


def by_length(rows: Samples) -> Samples:
    """Put rows of like length side by side, so that scoring computes little padding."""
    order = np.argsort((rows["sentences"] != 0).sum(axis=1), kind="stable")
    return {name: array[order] for name, array in rows.items()}
