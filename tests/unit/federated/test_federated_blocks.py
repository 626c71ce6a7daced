"""Tensor files in blocks: what a writer leaves, its digest, and a file that goes short under its reader."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file

from archipel.data.stores.files import Draft
from archipel.federated.blocks import TensorFile, TensorFileWriter, read_manifest
from archipel.spec import SpecError, digest_of, manifest_of, pack


def test_a_writer_leaves_what_a_reader_reads(tmp_path):
    path = tmp_path / "model"
    manifest = manifest_of([("a", (3,), np.dtype(np.float32)), ("b", (2, 2), np.dtype(np.float32))])
    with TensorFileWriter(partial(Draft, path), manifest, {"model": 0}) as writer:
        writer.write("model", 4, np.array([5, 6, 7], np.float32))
        writer.write("model", 0, np.array([1, 2, 3, 4], np.float32))
    with path.open("rb", buffering=0) as raw:
        assert read_manifest(raw)[0] == manifest
    assert load_file(path)["b"].tolist() == [[4, 5], [6, 7]]
    with TensorFile(partial(path.open, "rb", 0)) as file:
        assert file.read_flat(2, 5, np.empty(3, np.float32)).tolist() == [3, 4, 5]


@pytest.mark.parametrize("starts", [(0, 2, 4), (4, 0, 2), (0, 2, 0, 4), (0, 4, 2)])
def test_a_writer_knows_the_digest_of_its_file_in_whatever_order_it_was_written(tmp_path, starts):
    path = tmp_path / "model"
    manifest = manifest_of([("a", (6,), np.dtype(np.float32))])
    with TensorFileWriter(partial(Draft, path), manifest, {"model": 0}) as writer:
        for number, start in enumerate(starts):
            writer.write("model", start, np.full(2, number, np.float32))
    assert writer.draft.digest == digest_of(path.read_bytes())


def test_a_file_that_shrinks_under_the_reader_is_noticed(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(pack({"w": np.ones(1000, np.float32)}))
    with TensorFile(partial(path.open, "rb", 0)) as file:
        os.truncate(path, 500)
        with pytest.raises(SpecError):
            file.read_flat(0, 1000, np.empty(1000, np.float32))
