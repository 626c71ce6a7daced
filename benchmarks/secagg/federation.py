"""A federation in one process that plays sessions of secure aggregation with a clock on every step."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric import ec

from archipel.security import Authority, fingerprint, signing_request
from archipel.security.secagg import (
    WEIGHT,
    Assumptions,
    Field,
    History,
    Identity,
    Layout,
    Member,
    Membership,
    Policy,
    ServerSession,
    Shape,
    SiteSession,
    Terms,
    Trust,
    shape_for,
)
from archipel.spec import digest_of, encode

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
T = TypeVar("T")


class Server(Protocol):
    """Control in a session, of either mode."""

    def take(self, site: str, statement: bytes) -> None:
        """Take in what a site says."""
        ...

    def close(self) -> dict[str, bytes]:
        """Close a stage; return what each site is told."""
        ...


@dataclass
class Spent:
    """CPU seconds of one session."""

    gone: frozenset[str]
    sums: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """What was decoded, by field: the weighted sum of updates, and the weights."""
    sites: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By site."""
    by_step: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of control, by part of its work."""
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Bytes of a site's messages, beside its vector."""
    received: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Bytes of what a site is told."""

    @property
    def control(self) -> float:
        """All of control's seconds."""
        return sum(self.parts.values())

    @property
    def steps(self) -> dict[str, float]:
        """Mean seconds of a site in each step."""
        return {step: seconds / len(self.sites) for step, seconds in self.by_step.items()}

    def hear(self, outbox: Mapping[str, bytes]) -> None:
        """Count what is sent to each site."""
        for site, message in outbox.items():
            self.received[site] += len(message)

    def of_site(self, site: str, step: str, work: Callable[[], T]) -> T:
        """Do a site's work."""
        before = time.process_time()
        result = work()
        taken = time.process_time() - before
        self.sites[site] += taken
        self.by_step[step] += taken
        return result

    def of_control(self, part: str, work: Callable[[], T]) -> T:
        """Do control's work."""
        before = time.process_time()
        result = work()
        self.parts[part] += time.process_time() - before
        return result


class Federation:
    """Sites with certificates and updates."""

    def __init__(
        self,
        updates: Sequence[npt.NDArray[np.float32]],
        assumptions: Assumptions,
        *,
        bound: float = 1.0,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Certify a site for each update, which may be from -bound to bound; weights may be up to 1000."""
        count = len(updates)
        self.sites = [f"site-{index:03}" for index in range(count)]
        self.shape: Shape = shape_for(count, assumptions)
        self._policy = Policy(corrupt=assumptions.corrupt, adversary=assumptions.adversary)
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority.open(Path(folder), NOW)
        self._authority = authority.pem
        self.certify(authority)
        self._trust = Trust(authority.pem)
        self.verify_certificates()
        self._layout = Layout(
            sites=count,
            fields=(Field(name="delta", count=updates[0].size, low=-bound, high=bound, weighted=True),),
            weight_bound=1000.0,
        )
        self._updates = dict(zip(self.sites, updates, strict=True))
        weights = weights or [float(100 + index % 900) for index in range(count)]
        self._weights = dict(zip(self.sites, weights, strict=True))
        self._round = 0

    def certify(self, authority: Authority) -> None:
        """Let the sites join."""
        self._identities = {site: certified(site, authority) for site in self.sites}

    @classmethod
    def drawn(cls, count: int, parameters: int, assumptions: Assumptions) -> Self:
        """Return one whose updates are drawn."""
        base = np.random.default_rng(0).normal(0, 0.01, parameters).astype(np.float32)
        return cls([np.roll(base, 997 * index) for index in range(count)], assumptions)

    def verify_certificates(self) -> None:
        """Verify every site's certificate, as a site does with its neighbours' when it first meets them."""
        trust = Trust(self._authority)
        for site, identity in self._identities.items():
            trust.peer(site, identity.certificate, NOW)
            self._trust.peer(site, identity.certificate, NOW)

    def add_in_the_open(self) -> npt.NDArray[np.float64]:
        """Return the weighted sum of all updates, as it is without masks."""
        total = np.zeros(self._layout.count - 1)
        for site, update in self._updates.items():
            total += update * np.float32(self._weights[site])
        return total

    def play(self, gone: Iterable[str]) -> Spent:
        """Play one session in which the sites `gone` share keys and are not heard of again; check its sum."""
        self._round += 1
        spent = Spent(frozenset(gone))
        terms = self._terms()
        server = ServerSession(terms, self._trust, NOW)
        spent.hear(dict.fromkeys(self.sites, encode(terms)))
        sessions = {site: spent.of_site(site, "join", lambda site=site: self._join(site, terms)) for site in self.sites}
        vectors: dict[str, npt.NDArray[np.uint32]] = {}
        inbox = self._stage(spent, server, "advertise", {site: sessions[site].advertise for site in self.sites})
        inbox = self._stage(
            spent, server, "share", {site: lambda site=site: sessions[site].share(inbox[site]) for site in self.sites}
        )

        def masked(site: str) -> bytes:
            sessions[site].receive(inbox[site])
            message, vectors[site] = sessions[site].mask({"delta": self._updates[site]}, weight=self._weights[site])
            return message

        here = [site for site in self.sites if site not in spent.gone]
        survivors = self._stage(spent, server, "mask", {site: lambda site=site: masked(site) for site in here})
        consents = self._stage(
            spent, server, "consent", {site: lambda site=site: sessions[site].consent(survivors[site]) for site in here}
        )
        self._stage(
            spent,
            server,
            "release",
            {
                site: lambda site=site: sessions[site].release(consents[site], history=History())
                for site in here
                if site in consents
            },
        )
        spent.sums = self._open(spent, server, vectors)
        self._check(here, spent.sums)
        return spent

    def _terms(self) -> Terms:
        return Terms(
            run="bench-00000000",
            round=self._round,
            model=digest_of(b""),
            shape=self.shape,
            layout=self._layout,
            members=tuple(
                Member(site=site, fingerprint=fingerprint(identity.certificate))
                for site, identity in self._identities.items()
            ),
        )

    def _join(self, site: str, terms: Terms) -> SiteSession:
        member = Membership(site, self._identities[site], self._trust, self._policy, NOW)
        return SiteSession.join(encode(terms), member=member, history=History(), entropy=os.urandom(32))

    def _stage(
        self, spent: Spent, server: Server, stage: str, work: dict[str, Callable[[], bytes]]
    ) -> dict[str, bytes]:
        answers = {site: spent.of_site(site, stage, say) for site, say in work.items()}
        for site, answer in answers.items():
            spent.sent[site] += len(answer)
            spent.of_control("statements", lambda site=site, answer=answer: server.take(site, answer))
        part = "secrets put together" if stage == "release" else "statements"
        outbox = spent.of_control(part, server.close)
        spent.hear(outbox)
        return outbox

    def _open(
        self, spent: Spent, server: ServerSession, vectors: dict[str, npt.NDArray[np.uint32]]
    ) -> dict[str, npt.NDArray[np.float64]]:
        total = np.zeros(self._layout.count, np.uint32)

        def add() -> None:
            for site in server.opening.vectors:
                np.add(total, vectors[site], out=total)

        spent.of_control("vectors added", add)
        spent.of_control("masks taken off", lambda: server.opening.unmask(total))
        return spent.of_control("decoded", lambda: self._layout.decode(total, sites=len(server.opening.vectors)))

    def _check(self, here: list[str], sums: dict[str, npt.NDArray[np.float64]]) -> None:
        weights = {site: self._weights[site] for site in here}
        exact = sum(self._updates[site][:1000].astype(np.float64) * weight for site, weight in weights.items())
        error = float(np.abs(sums["delta"][:1000] - exact).max())
        if (
            sums[WEIGHT][0] != sum(weights.values())
            or error > len(here) * 1000.0 * self._layout.grid(self._layout.fields[0]).step
        ):
            raise SystemExit(f"the sum is wrong by {error}")


def certified(site: str, authority: Authority) -> Identity:
    """Return a new identity of `site`."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Identity(key, authority.certify_site(site, signing_request(key, site), NOW))
