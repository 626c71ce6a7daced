"""The conditional random field against sums and maxima over every tag path."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from archipel.tasks.load import load_object

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

EXAMPLE = Path(__file__).parents[3] / "examples" / "ner_conll2003"
TAGS = ("B-LOC", "I-LOC", "B-PER", "I-PER", "O")


@pytest.fixture
def crf():
    torch.manual_seed(5)
    made = load_object(EXAMPLE, "crf.py", "Crf")(TAGS)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made.requires_grad_(requires_grad=False)


def legal(path: tuple[int, ...]) -> bool:
    names = ["O", *(TAGS[tag] for tag in path)]
    return all(not b.startswith("I-") or a[2:] == b[2:] for a, b in itertools.pairwise(names))


def score(crf, scores, path) -> float:
    total = crf.first[path[0]] + crf.last[path[-1]] + sum(scores[i, tag] for i, tag in enumerate(path))
    return float(total + sum(crf.step[a, b] for a, b in itertools.pairwise(path)))


@pytest.mark.parametrize("length", [1, 2, 4])
def test_likelihood_and_best_path(crf, length):
    scores = torch.randn(length, len(TAGS))
    paths = [p for p in itertools.product(range(len(TAGS)), repeat=length) if legal(p)]
    values = torch.tensor([score(crf, scores, path) for path in paths])
    # A second, longer sentence beside it must change nothing.
    both = torch.zeros(2, 5, len(TAGS))
    both[0, :length] = scores
    mask = torch.arange(5) < torch.tensor([[length], [5]])
    tags = torch.zeros(2, 5, dtype=torch.long)
    tags[0, :length] = torch.tensor(paths[-1])
    loss = crf.negative_log_likelihood(both, tags, mask)[0]
    assert float(loss) == pytest.approx(float(torch.logsumexp(values, 0) - values[-1]), abs=1e-4)
    best = list(paths[int(values.argmax())])
    assert crf.decode(both, mask)[0] == best
    assert crf.best(torch.stack([scores, scores])).tolist() == [best, best]


def test_no_path_breaks_iob2_however_strong_the_scores(crf):
    scores = torch.zeros(1, 3, len(TAGS))
    scores[..., TAGS.index("I-PER")] = 50.0
    (path,) = crf.decode(scores, torch.ones(1, 3, dtype=torch.bool))
    assert legal(tuple(path))
