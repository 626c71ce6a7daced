"""The published sum with a helper: played again from its secrets to the published bytes; checked from outside.

The first test uses this package; the others nothing of it: hashlib, hmac, numpy, `cryptography` and the page.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from archipel.security.secagg import History, Identity, Trust
from archipel.security.two_server import HelperSession, Seat, ServerSession, SiteAnswer, Terms
from archipel.spec import decode
from two_server_vectors import FILE
from unit.security.test_security_secagg_vectors import bind, hkdf, words

PUBLISHED = json.loads(FILE.read_text(encoding="utf-8"))
SITES: dict[str, dict[str, Any]] = PUBLISHED["sites"]
HELPER: dict[str, Any] = PUBLISHED["helper"]
SAID: dict[str, Any] = PUBLISHED["messages"]
SESSION, CONTEXT = bytes.fromhex(PUBLISHED["session"]), bytes.fromhex(PUBLISHED["context"])


def seat(name: str, own: dict[str, Any]) -> Seat:
    key = ec.derive_private_key(int(own["identity_key"], 16), ec.SECP256R1())
    now = dt.datetime.fromisoformat(PUBLISHED["now"])
    return Seat(name, Identity(key, own["certificate"]), Trust(PUBLISHED["authority"]), now, 3)


def test_the_published_sum_is_played_again_byte_for_byte() -> None:
    terms = PUBLISHED["terms"].encode()
    of_helper = seat("notary", HELPER)
    server = ServerSession(decode(terms, Terms), of_helper.trust, of_helper.now)
    helper = HelperSession.join(terms, seat=of_helper, history=History(), entropy=bytes.fromhex(HELPER["entropy"]))
    assert helper.advertise().decode() == SAID["advertise"]
    server.take("notary", helper.advertise())
    invitations = server.close()
    assert {message.decode() for message in invitations.values()} == {SAID["invitation"]}
    total = np.array(HELPER["correction"], np.uint32)
    for name, site in SITES.items():
        answer = SiteAnswer.to(
            invitations[name],
            seat=seat(name, site),
            history=History(),
            entropy=bytes.fromhex(site["entropy"]),
        )
        values = {key: np.array(part) for key, part in site["values"].items()}
        message, vector = answer.mask(values, weight=site["weight"])
        assert (message.decode(), vector.tolist()) == (SAID["mask"][name], site["masked"])
        server.take(name, message)
        total += vector
    gathered = server.close()["notary"]
    assert gathered.decode() == SAID["gathered"]
    correction, vector = helper.release(gathered, history=History())
    assert (correction.decode(), vector.tolist()) == (SAID["release"], HELPER["correction"])
    server.take("notary", correction)
    server.close()
    assert (list(server.survivors), total.tolist()) == (PUBLISHED["survivors"], PUBLISHED["total"])
    sums = server.terms.layout.decode(total, sites=len(server.survivors))
    assert {name: part.tolist() for name, part in sums.items()} == PUBLISHED["sums"]


# ---- from outside: the page's formulas, without this package ----------------------------------------------------


def require_signed(message: str, session: bytes, certificate: str) -> None:
    document = json.loads(message)
    unsigned = json.dumps({**document, "signature": ""}, separators=(",", ":"), ensure_ascii=False)
    covered = bind("archipel/secagg/1", document["type"], session, unsigned)
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(base64.b64decode(document["signature"]), covered, ec.ECDSA(hashes.SHA256()))


def test_the_published_names_of_the_session_are_its_terms_and_the_helpers_signed_key() -> None:
    assert hashlib.sha256(PUBLISHED["terms"].encode()).digest() == SESSION
    assert hashlib.sha256(bind("archipel/secagg/1", "context", SESSION, SAID["advertise"])).digest() == CONTEXT
    require_signed(SAID["advertise"], SESSION, HELPER["certificate"])
    require_signed(SAID["release"], CONTEXT, HELPER["certificate"])
    survivors = hashlib.sha256(bind("archipel/secagg/1", "survivors", CONTEXT, SAID["gathered"])).digest()
    assert base64.b64decode(json.loads(SAID["release"])["survivors"]) == survivors


@pytest.mark.parametrize("name", SITES)
def test_a_published_seed_opens_with_the_helpers_key_and_masks_the_vector(name: str) -> None:
    site, said = SITES[name], json.loads(SAID["mask"][name])
    require_signed(SAID["mask"][name], CONTEXT, site["certificate"])
    entropy = bytes.fromhex(site["entropy"])
    for label, made in (("channel key", "channel_key"), ("self seed", "seed"), ("rounding", "rounding_key")):
        assert hkdf(entropy, CONTEXT, label, name).hex() == site[made]
    assert hkdf(bytes.fromhex(HELPER["entropy"]), SESSION, "helper key", "notary").hex() == HELPER["channel_key"]
    helper = X25519PrivateKey.from_private_bytes(bytes.fromhex(HELPER["channel_key"]))
    public = base64.b64decode(said["channel_key"])
    key = hkdf(helper.exchange(X25519PublicKey.from_public_bytes(public)), CONTEXT, "seed channel", name)
    about = bind("archipel/secagg/1", "sealed seed", CONTEXT, name, public)
    seed = ChaCha20Poly1305(key).decrypt(bytes(12), base64.b64decode(said["seed"]), about)
    assert seed.hex() == site["seed"]
    assert hkdf(seed, CONTEXT, "self mask", name).hex() == site["mask"]
    vector = np.array(site["levels"], np.uint32) + words(site["mask"], len(site["levels"]))
    assert vector.tolist() == site["masked"]
    assert said["vector"] == "sha256:" + hashlib.sha256(vector.astype("<u4").tobytes()).hexdigest()


def test_the_published_correction_is_minus_the_masks_and_the_total_the_sum_of_levels() -> None:
    masks = np.zeros(len(PUBLISHED["total"]), np.uint32)
    for site in SITES.values():
        masks += words(site["mask"], masks.size)
    assert (masks + np.array(HELPER["correction"], np.uint32)).tolist() == [0] * masks.size
    assert np.sum([site["levels"] for site in SITES.values()], axis=0).tolist() == PUBLISHED["total"]
    assert PUBLISHED["survivors"] == sorted(SITES) == ["s0", "s1", "s3"]
