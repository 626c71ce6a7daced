"""Makes docs/reference/secagg-vectors/two-server.json: one sum with a helper, with every secret, message and value.

    cd tests && ../.venv/bin/python -m two_server_vectors

Identities' certificates have serial numbers drawn at random, so a new file differs; the test replays the one there is.
"""

from __future__ import annotations

import json
from pathlib import Path

from archipel.security.secagg.derivation import PROTOCOL, Label, derive
from archipel.security.two_server.seeds import SiteSeed
from archipel.spec import encode
from secagg_party import NOW, authority, identity
from two_server_party import HELPER, HelpedParty, HelpedSession

FILE = Path(__file__).parents[1] / "docs/reference/secagg-vectors/two-server.json"
GONE = {"s2", "s4"}


def known_to(session: HelpedSession, site: str) -> dict[str, object]:
    """What every party has: its identity and its entropy."""
    return {
        "identity_key": f"{identity(site).key.private_numbers().private_value:064x}",
        "certificate": identity(site).certificate,
        "entropy": session.party.entropy(site).hex(),
    }


def site_values(session: HelpedSession, site: str) -> dict[str, object]:
    """What one site knows and makes."""
    secrets = SiteSeed(session.party.entropy(site), session.server._context, site)
    values, weight = session.party.values_of.values(site)
    return {
        **known_to(session, site),
        "channel_key": secrets._channel.private_bytes_raw().hex(),
        "seed": secrets._seed.hex(),
        "rounding_key": secrets.rounding.hex(),
        "mask": secrets.mask.hex(),
        "values": {name: part.tolist() for name, part in values.items()},
        "weight": weight,
        "levels": session.party.terms.layout.encode(values, weight=weight, rounding=secrets.rounding).tolist(),
        "masked": session.vectors[site].tolist(),
    }


def vectors() -> dict[str, object]:
    session = HelpedParty.of(5, parameters=4).session(GONE).play()
    terms, total = session.party.terms, session.total()
    channel_key = derive(session.party.entropy(HELPER), terms.session, Label.HELPER_KEY, HELPER)
    sums = terms.layout.decode(total, sites=len(session.server.survivors))
    return {
        "protocol": PROTOCOL,
        "now": NOW.isoformat(),
        "authority": authority().pem,
        "terms": encode(terms).decode(),
        "session": terms.session.hex(),
        "context": session.server._context.hex(),
        "helper": {
            **known_to(session, HELPER),
            "channel_key": channel_key.hex(),
            "correction": session.vectors[HELPER].tolist(),
        },
        "sites": {site: site_values(session, site) for site in session.masked},
        "messages": {
            "advertise": session.helper.advertise().decode(),
            "invitation": next(iter(session.invitations.values())).decode(),
            "mask": {site: message.decode() for site, message in session.masked.items()},
            "gathered": session.gathered.decode(),
            "release": session.correction.decode(),
        },
        "survivors": list(session.server.survivors),
        "total": total.tolist(),
        "sums": {name: part.tolist() for name, part in sums.items()},
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
