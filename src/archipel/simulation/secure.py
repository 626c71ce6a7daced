"""The sites of a simulation under secure aggregation: the same code as live ones, with keys that last as long as it.

Their authority is a folder's own, so that answers kept from an interrupted simulation still hold. It protects nobody:
all sites are in one process.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from archipel.data.stores.spool import Spool
from archipel.security import Authority, signing_request
from archipel.site.worker.memory import SecretMemory
from archipel.site.worker.noise import NOISE_KEY
from archipel.site.worker.secure import SecureSite


def authority_in(folder: Path) -> Authority:
    """Return the authority of simulated sites, made there if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return Authority.open(folder, dt.datetime.now(dt.UTC))


def secure_sites(names: Iterable[str], authority: Authority, spool: Spool) -> dict[str, SecureSite]:
    """Return a site of each name, with a new key under `authority`."""
    now = dt.datetime.now(dt.UTC)

    def made(name: str) -> SecureSite:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = authority.certify_site(name, signing_request(key, name), now)
        own = (name, key, lambda: certificate, authority.pem, SecretMemory(), spool, now.timestamp)
        return SecureSite(*own, noise_key=spool.folder.parent / NOISE_KEY)

    return {name: made(name) for name in names}
