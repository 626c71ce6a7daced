"""Signatures in a bundle: whose word counts for which job and code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from archipel.data.bundle import pack_bundle, read_bundle
from archipel.data.signatures import code_of, sign_job, signers_of
from archipel.security import key_digest
from archipel.security.signing import Signature, sign
from archipel.spec import JobSpec, decode, encode
from archipel.spec.job import job_from


def job(**federation: int) -> JobSpec:
    table = {"name": "birds", "task": {"code": "task.py:Birds"}, "data": {"dataset": "birds"}}
    return job_from({**table, "federation": federation})


JOB, LONGER = job(), job(rounds=11)
ADA, BOB = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text("class Birds: ...\n")
    return tmp_path


def packed(folder: Path) -> bytes:
    return pack_bundle(folder, JOB.task.include)


def test_who_signed_is_known_and_several_can(folder: Path) -> None:
    assert signers_of(packed(folder), JOB) == frozenset()
    before = code_of(read_bundle(packed(folder)))
    sign_job(folder, JOB, ADA)
    sign_job(folder, JOB, BOB)
    sign_job(folder, LONGER, BOB)
    assert code_of(read_bundle(packed(folder))) == before
    assert signers_of(packed(folder), JOB) == {key_digest(ADA.public_key()), key_digest(BOB.public_key())}
    assert signers_of(packed(folder), LONGER) == {key_digest(BOB.public_key())}
    signed = packed(folder)
    sign_job(folder, JOB, ADA)
    assert packed(folder) == signed, "to sign twice changes nothing"


def changed_code(folder: Path) -> None:
    (folder / "task.py").write_text("class Birds: 'other'\n")


def code_added(folder: Path) -> None:
    (folder / "more.py").write_text("")


def code_among_signatures(folder: Path) -> None:
    (folder / "signatures" / "more.py").write_text("")


def code_renamed(folder: Path) -> None:
    (folder / "task.py").rename(folder / "other.py")


MOVES: list[Callable[[Path], None]] = [changed_code, code_added, code_among_signatures, code_renamed]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
@pytest.mark.attack("hostile control", "change code that was signed")
def test_other_code_is_signed_by_nobody(folder: Path, move: Callable[[Path], None]) -> None:
    sign_job(folder, JOB, ADA)
    move(folder)
    assert signers_of(pack_bundle(folder, ["**/*.py"]), JOB) == frozenset()


def of_bob(signature: Signature) -> bytes:
    """In the name of another key."""
    return encode(msgspec.structs.replace(signature, key=sign(JOB.digest, signature.code, BOB).key))


def of_another_job(signature: Signature) -> bytes:
    return encode(msgspec.structs.replace(signature, job=LONGER.digest))


def of_rsa(signature: Signature) -> bytes:
    key = rsa.generate_private_key(65537, 2048).public_key()
    return encode(
        msgspec.structs.replace(signature, key=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    )


def of_another_curve(signature: Signature) -> bytes:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return encode(
        msgspec.structs.replace(signature, key=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    )


def of_noise(signature: Signature) -> bytes:
    return encode(msgspec.structs.replace(signature, key=b"no key", signature=b"nothing"))


def of_no_document(_: Signature) -> bytes:
    return b"signed: ada"


FORGERIES: list[Callable[[Signature], bytes]] = [
    of_bob,
    of_another_job,
    of_rsa,
    of_another_curve,
    of_noise,
    of_no_document,
]


@pytest.mark.parametrize("forged", FORGERIES, ids=lambda forged: forged.__name__)
@pytest.mark.attack("hostile control", "forge a signature under code")
def test_what_does_not_hold_signs_nothing(folder: Path, forged: Callable[[Signature], bytes]) -> None:
    file = sign_job(folder, JOB, ADA)
    file.write_bytes(forged(decode(file.read_bytes(), Signature)))
    assert signers_of(packed(folder), JOB) == frozenset()
    assert signers_of(packed(folder), LONGER) == frozenset()


def test_a_file_deeper_down_in_the_folder_of_signatures_is_code(folder: Path) -> None:
    sign_job(folder, JOB, ADA)
    (folder / "signatures" / "deep").mkdir()
    (folder / "signatures" / "deep" / "x.json").write_text("{}")
    assert signers_of(pack_bundle(folder, ["**/*.py", "**/*.json"]), JOB) == frozenset()
