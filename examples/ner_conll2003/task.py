"""The task that runs at a bureau: its own articles in, a tagger that all bureaux share out.

Everything comes from the bureau's own folder (train.txt, valid.txt, test.txt) and from the encoder that is installed
there. Word-piece vectors stay as published: they are half of the parameters, so an update is half as large, and words
that no bureau has trained on keep their place beside their neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from archipel.data.site_data import SiteData
from archipel.spec import DataError
from archipel.tasks.metrics import Tagging
from archipel.tasks.port import Samples, Split, Sums
from archipel.tasks.torch import TorchTask

from .batch import Batch
from .conll import TAGS, read
from .encode import Rows, Vocabulary, to_rows
from .encoder import vocabulary
from .model import Tagger

FROZEN = "encoder.table."


class NewsTagger(TorchTask):
    """Words of news articles to nine IOB2 tags."""

    classes = TAGS
    metrics = "tagging"
    evaluation_rows = 16

    def __init__(self, *, hidden: int = 200, dropout: float = 0.3, encoder_rate: float = 0.15) -> None:
        self._hidden = hidden
        self._dropout = dropout
        self._encoder_rate = encoder_rate

    def read(self, site: SiteData, statistics: Sums) -> Split:  # noqa: ARG002 (no statistics are asked for)
        """Read the bureau's articles, shortest windows first where nothing is trained on them."""
        words = vocabulary()
        train, valid, test = (self._part(site, part, words) for part in ("train", "valid", "test"))
        return Split(train=train, validation=by_length(valid), test=by_length(test))

    def model(self, statistics: Sums) -> nn.Module:  # noqa: ARG002
        """Build the published encoder under fresh layers."""
        tagger = Tagger(hidden=self._hidden, dropout=self._dropout, brief=bfloat16_pays())
        tagger.encoder.load_pretrained()
        return tagger

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

    def parameter_groups(self, model: nn.Module) -> Mapping[str, float]:  # noqa: ARG002
        """Move the pretrained layers more gently than the fresh ones."""
        return {"encoder.": self._encoder_rate}

    def trainable(self, name: str) -> bool:
        """Keep the word-piece vectors as published."""
        return not name.startswith(FROZEN)

    def _part(self, site: SiteData, part: str, words: Vocabulary) -> Rows:
        path = site.path / f"{part}.txt"
        if not path.is_file():
            raise DataError(
                f"{site.site} has no {path.name}", hint="prepare.py lays CoNLL-2003 out for the bureaux; see README.md"
            )
        return to_rows(read(path), words)


def by_length(rows: Rows) -> Samples:
    """Put rows of like length side by side, so that scoring computes little padding."""
    order = np.argsort((rows["pieces"] != 0).sum(axis=1), kind="stable")
    return {name: array[order] for name, array in rows.items()}


def bfloat16_pays() -> bool:
    """Say whether this machine multiplies bfloat16 matrices faster than float32 ones."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())  # noqa: SLF001 (there is no public way to ask)
