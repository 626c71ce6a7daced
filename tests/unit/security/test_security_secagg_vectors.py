"""The published session: played again from its secrets, it gives the published bytes; checked from outside, it adds up.

The first test uses this package; the second nothing of it: hashlib, hmac, numpy, `cryptography` and the page.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from archipel.security.secagg import (
    Graph,
    History,
    Identity,
    Membership,
    Policy,
    ServerSession,
    SiteSession,
    Terms,
    Trust,
)
from archipel.spec import decode
from secagg_vectors import FILE

PUBLISHED = json.loads(FILE.read_text(encoding="utf-8"))
SITES: dict[str, dict[str, Any]] = PUBLISHED["sites"]


def said(stage: str) -> dict[str, str]:
    """Site → what it said in a stage."""
    return {m["from"]: m["message"] for m in PUBLISHED["messages"] if "from" in m and m["stage"] == stage}


def sent(stage: str) -> dict[str, str]:
    """Site → what it was sent when a stage was closed."""
    return {m["to"]: m["message"] for m in PUBLISHED["messages"] if "to" in m and m["stage"] == stage}


def test_the_published_session_is_played_again_byte_for_byte() -> None:
    now = dt.datetime.fromisoformat(PUBLISHED["now"])
    terms, trust = PUBLISHED["terms"].encode(), Trust(PUBLISHED["authority"])
    server = ServerSession(decode(terms, Terms), trust, now)
    sites, vectors = {}, {}
    for name, site in SITES.items():
        key = ec.derive_private_key(int(site["identity_key"], 16), ec.SECP256R1())
        member = Membership(name, Identity(key, site["certificate"]), trust, Policy(), now)
        sites[name] = SiteSession.join(terms, member=member, history=History(), entropy=bytes.fromhex(site["entropy"]))

    def play(stage: str, answers: dict[str, bytes]) -> dict[str, bytes]:
        assert {name: answer.decode() for name, answer in answers.items()} == said(stage)
        for name, answer in answers.items():
            server.take(name, answer)
        outbox = server.close()
        assert {name: message.decode() for name, message in outbox.items()} == sent(stage)
        return outbox

    inbox = play("advertise", {name: site.advertise() for name, site in sites.items()})
    inbox = play("share", {name: sites[name].share(message) for name, message in inbox.items()})
    masked = {}
    for name in said("mask"):
        sites[name].receive(inbox[name])
        values = {key: np.array(part) for key, part in SITES[name]["values"].items()}
        masked[name], vectors[name] = sites[name].mask(values, weight=SITES[name]["weight"])
        assert vectors[name].tolist() == SITES[name]["masked"]
    inbox = play("mask", masked)
    inbox = play("consent", {name: sites[name].consent(message) for name, message in inbox.items()})
    play("release", {name: sites[name].release(message, history=History()) for name, message in inbox.items()})
    total = np.zeros(server.terms.layout.count, np.uint32)
    for name in server.opening.vectors:
        total += vectors[name]
    server.opening.unmask(total)
    assert total.tolist() == PUBLISHED["total"]
    sums = server.terms.layout.decode(total, sites=len(PUBLISHED["survivors"]))
    assert {name: part.tolist() for name, part in sums.items()} == PUBLISHED["sums"]


# ---- from outside: the page's formulas, without this package ----------------------------------------------------


def bind(*parts: bytes | str) -> bytes:
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in raw)


def hkdf(secret: bytes, salt: bytes, label: str, *names: str) -> bytes:
    """One block of HKDF-SHA256 (RFC 5869), written out."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, bind("archipel/secagg/1", label, *names) + b"\x01", "sha256")


def words(key: str, count: int) -> np.ndarray:
    stream = Cipher(algorithms.AES256(bytes.fromhex(key)), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(4 * count)), "<u4")


def test_the_published_values_follow_from_each_other_as_the_page_says() -> None:
    session, context = bytes.fromhex(PUBLISHED["session"]), bytes.fromhex(PUBLISHED["context"])
    assert hashlib.sha256(PUBLISHED["terms"].encode()).digest() == session
    adverts = said("advertise")
    hashed = bind("archipel/secagg/1", "context", session, *(adverts[name] for name in sorted(adverts)))
    assert hashlib.sha256(hashed).digest() == context
    for name, site in SITES.items():
        entropy, advert = bytes.fromhex(site["entropy"]), json.loads(adverts[name])
        for label, made in (("channel key", "channel_key"), ("mask key", "mask_key"), ("self seed", "self_seed")):
            assert hkdf(entropy, session, label, name).hex() == site[made]
        assert hkdf(bytes.fromhex(site["self_seed"]), context, "self mask", name).hex() == site["self_mask"]
        for key in ("channel_key", "mask_key"):
            public = X25519PrivateKey.from_private_bytes(bytes.fromhex(site[key])).public_key().public_bytes_raw()
            assert base64.b64decode(advert[key]) == public
        committed = bind("archipel/secagg/1", "commitment", session, name, bytes.fromhex(site["self_seed"]))
        assert base64.b64decode(advert["commitment"]) == hashlib.sha256(committed).digest()
    for pair, key in PUBLISHED["pair_masks"].items():
        low, high = pair.split()
        mine = X25519PrivateKey.from_private_bytes(bytes.fromhex(SITES[low]["mask_key"]))
        theirs = X25519PublicKey.from_public_bytes(base64.b64decode(json.loads(adverts[high])["mask_key"]))
        assert hkdf(mine.exchange(theirs), context, "pair mask", low, high).hex() == key


@pytest.mark.parametrize("name", [name for name, site in SITES.items() if site["masked"]])
def test_a_published_vector_is_its_levels_and_its_masks(name: str) -> None:
    site = SITES[name]
    vector = np.array(site["levels"], np.uint32)
    vector += words(site["self_mask"], vector.size)
    for pair, key in PUBLISHED["pair_masks"].items():
        if name in pair.split():
            mask = words(key, vector.size)
            vector = vector + mask if pair.split()[0] == name else vector - mask
    assert vector.tolist() == site["masked"]
    digest = "sha256:" + hashlib.sha256(vector.astype("<u4").tobytes()).hexdigest()
    assert json.loads(said("mask")[name])["vector"] == digest


def test_the_published_total_is_the_sum_of_the_survivors_levels() -> None:
    levels = [SITES[name]["levels"] for name in PUBLISHED["survivors"]]
    assert np.sum(levels, axis=0).tolist() == PUBLISHED["total"]
    assert set(SITES) - set(PUBLISHED["survivors"]) == {"s2"}


def test_five_published_shares_of_six_meet_at_the_secret() -> None:
    prime, chosen = 2**31 + 11, [1, 2, 4, 5, 6]
    for site in SITES.values():
        for what, secret in (("seed", "self_seed"), ("key", "mask_key")):
            shares = {point: bytes.fromhex(site["shares"][point - 1][what]) for point in chosen}
            number = 0
            for place in range(9):
                chunk = 0
                for point in chosen:
                    weight = 1
                    for other in chosen:
                        if other != point:
                            weight = weight * other * pow(other - point, -1, prime) % prime
                    chunk += weight * int.from_bytes(shares[point][4 * place : 4 * place + 4], "big")
                number = number << 31 | chunk % prime
            assert number.to_bytes(32, "big").hex() == site[secret]


def test_the_published_ring_is_laid_out_again() -> None:
    ring = PUBLISHED["ring"]
    context = bytes.fromhex(ring["context"])
    graph = Graph.of(ring["sites"], members=ring["members"], neighbours=ring["neighbours"], context=context)
    assert {site: list(graph.neighbours(site)) for site in ring["sites"]} == ring["sites"]
    order = sorted(
        ring["sites"],
        key=lambda site: hashlib.sha256(bind("archipel/secagg/1", "ring", context, site)).digest(),
    )
    beside = [order[place % 66] for place in (-2, -1, 1, 2)]
    assert ring["sites"][order[0]] == sorted(beside)
