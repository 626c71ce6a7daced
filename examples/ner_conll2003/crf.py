"""A linear-chain conditional random field whose decoding obeys IOB2.

Forbidden steps (``I-X`` after anything but ``B-X`` or ``I-X``) have a score so
low that neither the likelihood nor the best path can use them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # the one loop over words that an exported model may hold

FORBIDDEN = -1e4


def allowed(before: str, after: str) -> bool:
    """Whether IOB2 lets ``after`` follow ``before`` ('' is the sentence edge)."""
    return not after.startswith("I-") or (before != "" and before[2:] == after[2:])


class Crf(nn.Module):
    """Scores tag sequences; all tensors are (sentences, words, ...)."""

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__()
        count = len(tags)
        self.step = nn.Parameter(torch.zeros(count, count))
        self.first = nn.Parameter(torch.zeros(count))
        self.last = nn.Parameter(torch.zeros(count))
        bar_step = [[0.0 if allowed(a, b) else FORBIDDEN for b in tags] for a in tags]
        bar_first = [0.0 if allowed("", b) else FORBIDDEN for b in tags]
        self.register_buffer("bar_step", torch.tensor(bar_step), persistent=False)
        self.register_buffer("bar_first", torch.tensor(bar_first), persistent=False)

    def _steps(self) -> tuple[Tensor, Tensor]:
        bar_step, bar_first = self.bar_step, self.bar_first
        assert isinstance(bar_step, Tensor)
        assert isinstance(bar_first, Tensor)
        return self.step + bar_step, self.first + bar_first

    def negative_log_likelihood(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """One figure a sentence; ``mask`` is true on words."""
        step, first = self._steps()
        total = first + scores[:, 0]
        for place in range(1, scores.shape[1]):
            moved = torch.logsumexp(total.unsqueeze(2) + step, dim=1) + scores[:, place]
            total = torch.where(mask[:, place, None], moved, total)
        log_all = torch.logsumexp(total + self.last, dim=1)

        emitted = scores.gather(2, tags.unsqueeze(2)).squeeze(2) * mask
        moves = step[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]
        ends = tags.gather(1, mask.long().sum(1, keepdim=True) - 1).squeeze(1)
        path = emitted.sum(1) + moves.sum(1) + first[tags[:, 0]] + self.last[ends]
        return log_all - path

    @torch.no_grad()
    def decode(self, scores: Tensor, mask: Tensor) -> list[list[int]]:
        """The best legal tag path of each sentence."""
        step, first = self._steps()
        total = first + scores[:, 0]
        stay = torch.arange(scores.shape[2], device=scores.device)
        origins: list[Tensor] = []
        for place in range(1, scores.shape[1]):
            best, origin = (total.unsqueeze(2) + step).max(dim=1)
            live = mask[:, place, None]
            total = torch.where(live, best + scores[:, place], total)
            origins.append(torch.where(live, origin, stay))
        tag = (total + self.last).argmax(dim=1)
        path = [tag]
        for origin in reversed(origins):
            tag = origin.gather(1, tag.unsqueeze(1)).squeeze(1)
            path.append(tag)
        table = torch.stack(path[::-1], dim=1).tolist()
        lengths = mask.long().sum(1).tolist()
        return [row[:length] for row, length in zip(table, lengths, strict=True)]

    def best(self, scores: Tensor) -> Tensor:
        """The best legal tags of sentences of one length, (sentences, words): ``decode`` for an exported model.

        The best path through each tag of each word is the best way there plus the best way on from there.
        """
        step, first = self._steps()
        words = scores.transpose(0, 1)

        def there(before: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
            after = (before.unsqueeze(2) + step).amax(1) + word
            return after, after.clone()

        def onward(after: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
            before = ((after + word).unsqueeze(1) + step).amax(2)
            return before, before.clone()

        # A word of zeros is added, and its answer dropped: a scan over no words at all cannot be exported.
        none = torch.zeros_like(words[:1])
        start, end = first + words[0], self.last.expand_as(words[0]).clone()
        _, reached = scan(there, start, torch.cat((words[1:], none)))
        _, left = scan(onward, end, torch.cat((none, words[1:])), reverse=True)
        through = torch.cat((start[None], reached[:-1])) + torch.cat((left[1:], end[None]))
        return through.argmax(-1).transpose(0, 1)
