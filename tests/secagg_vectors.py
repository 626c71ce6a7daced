"""Makes docs/reference/secagg-vectors/session.json: one session, with every secret, message and intermediate value.

    cd tests && ../.venv/bin/python -m secagg_vectors

Identities' certificates have serial numbers drawn at random, so a new file differs; the test replays the one there is.
"""

from __future__ import annotations

import json
from pathlib import Path

from archipel.security.secagg import Graph
from archipel.security.secagg.derivation import PROTOCOL
from archipel.security.secagg.site_secrets import Secrets, pair_mask, self_mask
from archipel.spec import encode
from secagg_party import NOW, Party, Session, identity

FILE = Path(__file__).parents[1] / "docs/reference/secagg-vectors/session.json"
GONE = {"advertise": {"s6"}, "mask": {"s2"}}
RING = {"members": 66, "neighbours": 4, "context": bytes(range(32)).hex()}


def secrets_of(session: Session, site: str) -> Secrets:
    return Secrets(session.party.entropy(site), session.party.terms.session, site)


def site_vector(session: Session, site: str) -> dict[str, object]:
    """What one site knows and makes."""
    secrets, context = secrets_of(session, site), session.server._context
    values, weight = session.party.values(site)
    levels = session.party.terms.layout.encode(values, weight=weight, rounding=secrets.rounding)
    vector = session.vectors.get(site)
    return {
        "identity_key": f"{identity(site).key.private_numbers().private_value:064x}",
        "certificate": identity(site).certificate,
        "entropy": session.party.entropy(site).hex(),
        "channel_key": secrets._channel.private_bytes_raw().hex(),
        "mask_key": secrets._mask.private_bytes_raw().hex(),
        "self_seed": secrets.seed.hex(),
        "rounding_key": secrets.rounding.hex(),
        "self_mask": self_mask(secrets.seed, context, site).hex(),
        "shares": [{"seed": one.seed.hex(), "key": one.key.hex()} for one in secrets.split(6, 5)],
        "values": {name: part.tolist() for name, part in values.items()},
        "weight": weight,
        "levels": levels.tolist(),
        "masked": None if vector is None else vector.tolist(),
    }


def vectors() -> dict[str, object]:
    session = Party.of(7, parameters=4).session(GONE)
    total = session.run()
    context, sites = session.server._context, sorted(session.server._said["share"])
    pairs = {
        f"{low} {high}": pair_mask(
            secrets_of(session, low)._mask, context, low, high, secrets_of(session, high).mask_key
        ).hex()
        for low in sites
        for high in sites
        if low < high
    }
    names = [f"site-{index:02}" for index in range(66)]
    ring = Graph.of(names, members=66, neighbours=4, context=bytes(range(32)))
    return {
        "protocol": PROTOCOL,
        "now": NOW.isoformat(),
        "authority": session.party.trust_pem,
        "terms": encode(session.party.terms).decode(),
        "session": session.party.terms.session.hex(),
        "context": context.hex(),
        "sites": {site: site_vector(session, site) for site in sites},
        "pair_masks": pairs,
        "messages": [
            {"from" if who == "site" else "to": site, "stage": stage, "message": message.decode()}
            for who, site, stage, message in session.log
        ],
        "survivors": list(session.survivors),
        "total": total.tolist(),
        "sums": {
            name: part.tolist()
            for name, part in session.party.terms.layout.decode(total, sites=len(session.survivors)).items()
        },
        "ring": {**RING, "sites": {site: list(ring.neighbours(site)) for site in names}},
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
