"""A party for secure aggregation: an authority, certified sites, and a server that does as it is told.

party = Party.of(7)
session = party.session({"share": {"s2"}})      s2 is gone from stage "share" on
session.run()                                   → the decoded sums, over session.survivors
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from archipel.security import Authority, fingerprint, signing_request
from archipel.security.secagg import (
    Assumptions,
    Field,
    History,
    Identity,
    Layout,
    Member,
    Membership,
    Policy,
    ServerSession,
    SiteSession,
    Terms,
    Trust,
    shape_for,
)
from archipel.spec import digest_of, encode

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
STAGES = ("advertise", "share", "mask", "consent", "release")


def key_of(name: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key that is the same in every run; for tests only."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(name.encode()).digest()[:31]) + 1, ec.SECP256R1())


@functools.cache
def authority() -> Authority:
    """The authority all parties share."""
    with TemporaryDirectory() as folder:
        return Authority.open(Path(folder), NOW)


@functools.cache
def identity(site: str, key: str = "") -> Identity:
    """A certified identity of `site`, with the key called `key`."""
    private = key_of(key or site)
    return Identity(private, authority().certify_site(site, signing_request(private, site), NOW))


def names(count: int) -> list[str]:
    return sorted(f"s{index}" for index in range(count))


@dataclass(frozen=True)
class Party:
    """The terms of a session, and the sites that come to it."""

    terms: Terms
    trust: Trust
    policy: Policy = field(default_factory=Policy)
    seed: bytes = b"party"

    @classmethod
    def of(cls, count: int, *, parameters: int = 6, assumptions: Assumptions | None = None, **changes: object) -> Party:
        fields = {
            "run": "demo-00000000",
            "round": 3,
            "model": digest_of(b"model"),
            "shape": shape_for(count, assumptions or Assumptions()),
            "layout": Layout(
                sites=count,
                fields=(
                    Field(name="delta", count=parameters, low=-1.0, high=1.0, weighted=True),
                    Field(name="loss_sum", low=0.0, high=1000.0),
                ),
                weight_bound=100.0,
            ),
            "members": tuple(
                Member(site=site, fingerprint=fingerprint(identity(site).certificate)) for site in names(count)
            ),
        }
        return cls(Terms(**{**fields, **changes}), Trust(authority().pem))

    @property
    def trust_pem(self) -> str:
        """The authority's certificate."""
        return authority().pem

    @property
    def sites(self) -> list[str]:
        return [member.site for member in self.terms.members]

    def member(self, site: str) -> Membership:
        return Membership(site, identity(site), self.trust, self.policy, NOW)

    def entropy(self, site: str) -> bytes:
        return hashlib.sha256(self.seed + site.encode()).digest()

    def join(self, site: str, history: History | None = None, terms: Terms | None = None) -> SiteSession:
        return SiteSession.join(
            encode(terms or self.terms),
            member=self.member(site),
            history=history or History(),
            entropy=self.entropy(site),
        )

    def values(self, site: str) -> tuple[dict[str, np.ndarray], float]:
        """What a site sums: its values and its weight."""
        rng = np.random.default_rng(list(site.encode()))
        count = self.terms.layout.fields[0].count
        values = {"delta": rng.uniform(-1, 1, count), "loss_sum": rng.uniform(0, 1000, 1)}
        return values, float(rng.integers(1, 100))

    def session(self, gone: Mapping[str, set[str]] | None = None) -> Session:
        return Session(self, dict(gone or {}))


@dataclass
class Session:
    """One session with an honest server; `gone` says from which stage on which sites are silent."""

    party: Party
    gone: dict[str, set[str]]

    def __post_init__(self) -> None:
        self.server = ServerSession(self.party.terms, self.party.trust, NOW)
        self.sites = {site: self.party.join(site) for site in self.party.sites}
        self.vectors: dict[str, np.ndarray] = {}
        self.inbox: dict[str, bytes] = {}
        self.log: list[tuple[str, str, str, bytes]] = []

    def here(self, stage: str) -> list[str]:
        """Sites that are not gone in a stage."""
        lost = set().union(*(self.gone.get(earlier, set()) for earlier in STAGES[: STAGES.index(stage) + 1]))
        return [site for site in self.party.sites if site not in lost]

    def say(self, site: str, stage: str, message: bytes) -> bytes:
        """What `site` answers in a stage to what it was sent."""
        session = self.sites[site]
        match stage:
            case "advertise":
                return session.advertise()
            case "share":
                return session.share(message)
            case "mask":
                if session.reply("mask") is not None:
                    return session.reply("mask")
                session.receive(message)
                values, weight = self.party.values(site)
                answer, self.vectors[site] = session.mask(values, weight=weight)
                return answer
            case "consent":
                return session.consent(message)
            case _:
                return session.release(message, history=History())

    def play(self, stage: str) -> None:
        """One stage: everybody who is here answers, and it is closed."""
        for site in self.here(stage):
            if stage != "advertise" and site not in self.inbox:
                continue
            answer = self.say(site, stage, self.inbox.get(site, b""))
            self.log.append(("site", site, stage, answer))
            self.server.take(site, answer)
        self.inbox = self.server.close()
        self.log += [("control", site, stage, message) for site, message in self.inbox.items()]

    def play_until(self, stage: str) -> Session:
        """All stages before `stage`."""
        for earlier in STAGES[: STAGES.index(stage)]:
            self.play(earlier)
        return self

    @property
    def survivors(self) -> tuple[str, ...]:
        return tuple(self.server.opening.vectors)

    def total(self) -> np.ndarray:
        """The unmasked sum of levels."""
        total = np.zeros(self.party.terms.layout.count, np.uint32)
        for site in self.server.opening.vectors:
            total += self.vectors[site]
        self.server.opening.unmask(total)
        return total

    def plain_total(self, sites: tuple[str, ...]) -> np.ndarray:
        """The sum of the same sites' levels, added up without masks."""
        from archipel.security.secagg.site_secrets import Secrets

        total = np.zeros(self.party.terms.layout.count, np.uint32)
        for site in sites:
            values, weight = self.party.values(site)
            rounding = Secrets(self.party.entropy(site), self.party.terms.session, site).rounding
            total += self.party.terms.layout.encode(values, weight=weight, rounding=rounding)
        return total

    def run(self) -> np.ndarray:
        for stage in STAGES:
            self.play(stage)
        return self.total()
