"""Signatures that travel with a task's code, as files of its bundle.

    task.py                                   the code: every file of the bundle but its signatures
    signatures/JOB.KEY.json                   a signature under a job and this code, one a file

`code_of` does not depend on signatures, so that several people can sign the same code, one after another, and one
folder holds the signatures of several presets. What does not hold, or is about another job or code, signs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from archipel.data.bundle import SIGNATURES, pack_bundle, read_bundle
from archipel.security import PrivateKey, key_digest
from archipel.security.signing import Signature, sign, signer_of
from archipel.spec import Digest, JobSpec, SpecError, decode, digest_of, digest_value, encode

_NAME = re.compile(re.escape(SIGNATURES).replace(r"\*", "[^/]+"))
_SHOWN = 12


def code_of(members: Mapping[str, bytes]) -> Digest:
    """Return the digest of a bundle's files, but for its signatures."""
    return digest_value({name: digest_of(content) for name, content in members.items() if not _NAME.fullmatch(name)})


def signers_of(bundle: bytes, job: JobSpec) -> frozenset[Digest]:
    """Return the digests of the keys that signed this job with the code of this bundle.

    Raises:
        TrustError: it is no bundle.
    """
    members = read_bundle(bundle)
    code = code_of(members)
    found = (_signer(content, job.digest, code) for name, content in members.items() if _NAME.fullmatch(name))
    return frozenset(signer for signer in found if signer is not None)


def sign_job(folder: Path, job: JobSpec, key: PrivateKey) -> Path:
    """Sign a job and the code in its folder; return the file that was written there."""
    signature = sign(job.digest, code_of(read_bundle(pack_bundle(folder, job.task.include))), key)
    names = (digest.removeprefix("sha256:")[:_SHOWN] for digest in (job.digest, key_digest(key.public_key())))
    path = folder / SIGNATURES.replace("*", ".".join(names))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode(signature) + b"\n")
    return path


def _signer(content: bytes, job: Digest, code: Digest) -> Digest | None:
    try:
        return signer_of(decode(content, Signature), job, code)
    except SpecError:
        return None
