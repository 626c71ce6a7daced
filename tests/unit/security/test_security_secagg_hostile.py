"""A hostile server: each of its moves makes an honest site abort, by name, with no share released."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from cryptography import x509

from archipel.security import fingerprint, key_digest
from archipel.security.secagg import History, Member, Policy, Reason, Shape, SiteSession, Trust, reason_of
from archipel.security.secagg.messages import Advert, Consent, Consents, Delivery, Roster, Sealed, Survivors
from archipel.security.secagg.trust import signed
from archipel.spec import SecureAggregationError, decode, encode
from secagg_party import NOW, Party, Session, identity, key_of

replace = msgspec.structs.replace
VICTIM = "s3"


def party(count: int = 7) -> Party:
    return Party.of(count)


def roster_of(session: Session) -> Roster:
    return decode(session.inbox[VICTIM], Roster)


def with_advert(roster: Roster, name: str, **changes: object) -> bytes:
    """The roster with a site's advert changed."""
    return encode(Roster(adverts=tuple(replace(a, **changes) if a.site == name else a for a in roster.adverts)))


def forged_advert(session: Session, site: str, *, certified_as: str, key: str) -> Advert:
    """An advert in the name of `site` with keys of the server's own, signed with a key of the server's own."""
    theirs = next(advert for advert in roster_of(session).adverts if advert.site == site)
    mine = replace(
        theirs, certificate=identity(certified_as, key).certificate, mask_key=b"\x09" + bytes(31), signature=b""
    )
    return signed(mine, session.party.terms.session, key_of(key))


def without(session: Session, *names: str) -> bytes:
    adverts = [advert for advert in roster_of(session).adverts if advert.site not in names]
    return encode(Roster(adverts=tuple(adverts)))


# ---- moves ------------------------------------------------------------------------------------------------------


def shows_two_survivor_sets(session: Session) -> None:
    """Half of the sites are told that s0 survived, half that s1 did: each set would open another secret of both."""
    session.play_until("consent")
    everybody = session.party.sites
    views = {site: [peer for peer in everybody if peer != ("s0" if site > "s3" else "s1")] for site in everybody}
    consents = [
        decode(session.sites[site].consent(encode(Survivors(sites=tuple(views[site])))), Consent)
        for site in everybody
        if site in views[site]
    ]
    for site in ("s2", "s4", "s5", "s6"):
        with pytest.raises(SecureAggregationError, match="split-view"):
            session.sites[site].release(encode(Consents(consents=tuple(consents))), history=History())
        agreeing = [one for one in consents if views[one.site] == views[site]]
        assert len(agreeing) < session.party.terms.shape.threshold
    mine = [one for one in consents if views[one.site] == views[VICTIM]]
    session.sites[VICTIM].release(encode(Consents(consents=tuple(mine))), history=History())


def passes_on_consents_to_another_set(session: Session) -> None:
    session.play_until("consent")
    fewer = encode(Survivors(sites=tuple(site for site in session.party.sites if site != "s0")))
    everybody = encode(Survivors(sites=tuple(session.party.sites)))
    others = [decode(session.sites[site].consent(fewer), Consent) for site in session.party.sites if site > "s3"]
    session.sites[VICTIM].consent(everybody)
    session.sites[VICTIM].release(encode(Consents(consents=tuple(others))), history=History())


def asks_for_both_shares(session: Session) -> None:
    """First the survivors with s0, then without: the second would open the other secret of s0."""
    session.play_until("consent")
    everybody = session.party.sites
    session.sites[VICTIM].consent(encode(Survivors(sites=tuple(everybody))))
    session.sites[VICTIM].consent(encode(Survivors(sites=tuple(everybody[1:]))))


def asks_again_after_a_restart(session: Session) -> None:
    """As before, but the site was killed and started in between."""
    session.play_until("consent")
    everybody = session.party.sites
    session.sites[VICTIM].consent(encode(Survivors(sites=tuple(everybody))))
    restored = SiteSession.restore(session.sites[VICTIM].state(), session.party.member(VICTIM))
    session.sites[VICTIM] = restored
    restored.consent(encode(Survivors(sites=tuple(everybody[1:]))))


def repeats_consents_of_one_site(session: Session) -> None:
    session.play_until("release")
    first = decode(session.inbox[VICTIM], Consents).consents[0]
    session.sites[VICTIM].release(encode(Consents(consents=(first,) * 7)), history=History())


def forges_a_consent(session: Session) -> None:
    session.play_until("release")
    consents = list(decode(session.inbox[VICTIM], Consents).consents)
    consents[0] = replace(consents[0], signature=consents[1].signature)
    session.sites[VICTIM].release(encode(Consents(consents=tuple(consents))), history=History())


def brings_a_consent_of_a_dropped_site(session: Session) -> None:
    session.gone = {"mask": {"s1"}}
    session.play_until("release")
    consents = decode(session.inbox[VICTIM], Consents).consents
    stranger = replace(consents[0], site="s1")
    session.sites[VICTIM].release(encode(Consents(consents=(*consents, stranger))), history=History())


def puts_its_own_keys_under_a_peers_name(session: Session) -> None:
    session.play_until("share")
    session.sites[VICTIM].share(with_advert(roster_of(session), "s0", mask_key=b"\x09" + bytes(31)))


def certifies_itself_as_a_peer(session: Session) -> None:
    """It holds the authority's key, as control does; the terms name another certificate."""
    session.play_until("share")
    false = forged_advert(session, "s0", certified_as="s0", key="the server's")
    session.sites[VICTIM].share(with_advert(roster_of(session), "s0", **msgspec.structs.asdict(false)))


def uses_a_certificate_of_another_site(session: Session) -> None:
    session.play_until("share")
    false = forged_advert(session, "s0", certified_as="mole", key="mole")
    session.sites[VICTIM].share(with_advert(roster_of(session), "s0", **msgspec.structs.asdict(false)))


def gives_two_sites_one_key(session: Session) -> None:
    session.play_until("share")
    copied = roster_of(session).adverts[0].mask_key
    session.sites[VICTIM].share(with_advert(roster_of(session), "s1", channel_key=copied))


def changes_the_victims_own_keys(session: Session) -> None:
    session.play_until("share")
    session.sites[VICTIM].share(with_advert(roster_of(session), VICTIM, mask_key=b"\x09" + bytes(31)))


def leaves_the_victim_out_of_the_roster(session: Session) -> None:
    session.play_until("share")
    session.sites[VICTIM].share(without(session, VICTIM))


def drops_peers_from_the_roster(session: Session) -> None:
    session.play_until("share")
    session.sites[VICTIM].share(without(session, "s0", "s1", "s2"))


def leaves_the_victim_with_one_peer(session: Session) -> None:
    session.play_until("share")
    session.sites[VICTIM].share(without(session, "s0", "s1", "s2", "s4", "s5"))


def brings_a_stranger_into_the_roster(session: Session) -> None:
    session.play_until("share")
    adverts = roster_of(session).adverts
    stranger = replace(adverts[0], site="zz", channel_key=b"\x05" * 32, mask_key=b"\x06" * 32)
    session.sites[VICTIM].share(encode(Roster(adverts=(*adverts, stranger))))


def shows_two_rosters(session: Session) -> None:
    """Six sites learn of each other, the victim of all seven: nothing that one sealed opens at the others."""
    session.play_until("share")
    full, fewer = session.inbox[VICTIM], without(session, "s6")
    sealed = {
        site: decode(session.sites[site].share(fewer), Sealed)
        for site in session.party.sites
        if site not in {"s6", VICTIM}
    }
    session.sites[VICTIM].share(full)
    shares = {site: one.shares[VICTIM] for site, one in sealed.items()}
    sharers = tuple(sorted([*sealed, VICTIM]))
    session.sites[VICTIM].receive(encode(Delivery(sharers=sharers, shares=shares)))


def swaps_sealed_shares(session: Session) -> None:
    session.play_until("mask")
    delivery = decode(session.inbox[VICTIM], Delivery)
    shares = {**delivery.shares, "s0": delivery.shares["s1"], "s1": delivery.shares["s0"]}
    session.sites[VICTIM].receive(encode(replace(delivery, shares=shares)))


def holds_back_a_share(session: Session) -> None:
    session.play_until("mask")
    delivery = decode(session.inbox[VICTIM], Delivery)
    fewer = {site: share for site, share in delivery.shares.items() if site != "s0"}
    session.sites[VICTIM].receive(encode(replace(delivery, shares=fewer)))


def says_that_few_shared(session: Session) -> None:
    session.play_until("mask")
    delivery = decode(session.inbox[VICTIM], Delivery)
    few = {site: delivery.shares[site] for site in ("s0", "s1")}
    session.sites[VICTIM].receive(encode(Delivery(sharers=("s0", "s1", VICTIM), shares=few)))


def says_that_few_survived(session: Session) -> None:
    session.play_until("consent")
    session.sites[VICTIM].consent(encode(Survivors(sites=("s0", "s1", VICTIM))))


def says_that_the_victim_alone_survived(session: Session) -> None:
    session.play_until("consent")
    session.sites[VICTIM].consent(encode(Survivors(sites=(VICTIM,))))


def says_that_a_site_survived_that_never_shared(session: Session) -> None:
    session.gone = {"share": {"s1"}}
    session.play_until("consent")
    session.sites[VICTIM].consent(encode(Survivors(sites=tuple(session.party.sites))))


def asks_a_dropped_site_to_unmask_the_others(session: Session) -> None:
    session.play_until("consent")
    others = tuple(site for site in session.party.sites if site != VICTIM)
    session.sites[VICTIM].consent(encode(Survivors(sites=others)))


def goes_on_in_a_session_of_a_released_round(session: Session) -> None:
    session.play_until("release")
    before = History(released=frozenset({("demo-00000000", 3)}))
    session.sites[VICTIM].release(session.inbox[VICTIM], history=before)


@dataclass(frozen=True)
class Move:
    play: Callable[[Session], None]
    reason: Reason


MOVES = [
    Move(shows_two_survivor_sets, Reason.SPLIT_VIEW),
    Move(passes_on_consents_to_another_set, Reason.SPLIT_VIEW),
    Move(asks_for_both_shares, Reason.SECOND_SURVIVOR_SET),
    Move(asks_again_after_a_restart, Reason.SECOND_SURVIVOR_SET),
    Move(repeats_consents_of_one_site, Reason.SPLIT_VIEW),
    Move(forges_a_consent, Reason.FORGED),
    Move(brings_a_consent_of_a_dropped_site, Reason.SPLIT_VIEW),
    Move(puts_its_own_keys_under_a_peers_name, Reason.SUBSTITUTED_KEY),
    Move(certifies_itself_as_a_peer, Reason.SUBSTITUTED_KEY),
    Move(uses_a_certificate_of_another_site, Reason.SUBSTITUTED_KEY),
    Move(gives_two_sites_one_key, Reason.SUBSTITUTED_KEY),
    Move(changes_the_victims_own_keys, Reason.ENTRY_CHANGED),
    Move(leaves_the_victim_out_of_the_roster, Reason.ENTRY_CHANGED),
    Move(drops_peers_from_the_roster, Reason.TOO_FEW_SITES),
    Move(leaves_the_victim_with_one_peer, Reason.TOO_FEW_SITES),
    Move(brings_a_stranger_into_the_roster, Reason.NOT_A_MEMBER),
    Move(shows_two_rosters, Reason.UNTRUE_SHARE),
    Move(swaps_sealed_shares, Reason.UNTRUE_SHARE),
    Move(holds_back_a_share, Reason.UNTRUE_SHARE),
    Move(says_that_few_shared, Reason.TOO_FEW_SITES),
    Move(says_that_few_survived, Reason.TOO_FEW_SITES),
    Move(says_that_the_victim_alone_survived, Reason.TOO_FEW_SITES),
    Move(says_that_a_site_survived_that_never_shared, Reason.SPLIT_VIEW),
    Move(asks_a_dropped_site_to_unmask_the_others, Reason.ENTRY_CHANGED),
    Move(goes_on_in_a_session_of_a_released_round, Reason.ROUND_RELEASED),
]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.play.__name__)
@pytest.mark.attack("hostile control", "bare one update of a secure sum: {move.reason.value}")
def test_an_honest_site_aborts_by_name_and_nobody_releases_a_share(move: Move) -> None:
    session = party().session()
    with pytest.raises(SecureAggregationError) as caught:
        move.play(session)
    assert reason_of(caught.value) == move.reason
    assert caught.value.hint
    assert [site for site, one in session.sites.items() if one.reply("release") is not None] == []
    victim = session.sites[VICTIM]
    assert victim.ended == caught.value.message
    leftover = decode(victim.state(), dict)
    assert (leftover["entropy"], leftover["held"], leftover["replies"]) == ("", {}, {})
    for step in (
        victim.advertise,
        lambda: victim.share(b"{}"),
        lambda: victim.mask({}, weight=1.0),
        lambda: victim.receive(b""),
    ):
        with pytest.raises(SecureAggregationError):
            step()


@dataclass(frozen=True)
class Terms:
    why: str
    reason: Reason
    changes: dict[str, object]
    history: History = field(default_factory=History)
    policy: Policy = field(default_factory=Policy)


SEVEN = Party.of(7)
PROPOSALS = [
    Terms("a lowered threshold", Reason.WEAK_TERMS, {"shape": Shape(neighbours=6, threshold=2, quorum=5)}),
    Terms("a lowered quorum", Reason.WEAK_TERMS, {"shape": Shape(neighbours=6, threshold=5, quorum=3)}),
    Terms(
        "a cohort of one",
        Reason.SMALL_COHORT,
        {"members": SEVEN.terms.members[3:4], "shape": Shape(neighbours=0, threshold=1, quorum=1)},
    ),
    Terms(
        "a cohort of two",
        Reason.SMALL_COHORT,
        {"members": SEVEN.terms.members[3:5], "shape": Shape(neighbours=1, threshold=2, quorum=2)},
    ),
    Terms("a cohort smaller than the site wants", Reason.SMALL_COHORT, {}, policy=Policy(min_sites=8)),
    Terms(
        "a replayed session",
        Reason.REPLAYED_SESSION,
        {},
        history=History(sessions=frozenset({SEVEN.terms.session.hex()})),
    ),
    Terms(
        "a round that was released, tried again",
        Reason.ROUND_RELEASED,
        {"attempt": 1},
        history=History(released=frozenset({("demo-00000000", 3)})),
    ),
    Terms("the site under another certificate", Reason.NOT_A_MEMBER, {"members": (
        *SEVEN.terms.members[:3], Member(site=VICTIM, fingerprint="00" * 32), *SEVEN.terms.members[4:])}),
    Terms("without the site", Reason.NOT_A_MEMBER, {"members": SEVEN.terms.members[:3]}),
    Terms("a site twice", Reason.MALFORMED, {"members": (*SEVEN.terms.members, SEVEN.terms.members[-1])}),
    Terms("one certificate for two sites", Reason.MALFORMED, {"members": (
        *SEVEN.terms.members[:6], replace(SEVEN.terms.members[6], fingerprint=SEVEN.terms.members[0].fingerprint))}),
    Terms("levels that wrap around", Reason.MALFORMED, {"layout": replace(SEVEN.terms.layout, sites=6)}),
]  # fmt: skip


@pytest.mark.parametrize("case", PROPOSALS, ids=lambda case: case.why)
@pytest.mark.attack("hostile control", "have worse terms for a secure sum: {case.reason.value}")
def test_a_site_does_not_agree_to(case: Terms) -> None:
    proposed = replace(SEVEN.terms, **case.changes)
    member = SEVEN.member(VICTIM)._replace(policy=case.policy)
    with pytest.raises(SecureAggregationError) as caught:
        SiteSession.join(encode(proposed), member=member, history=case.history, entropy=bytes(32))
    assert reason_of(caught.value) == case.reason


def test_terms_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(SecureAggregationError, match="malformed"):
        SiteSession.join(b"{}", member=SEVEN.member(VICTIM), history=History(), entropy=bytes(32))


@pytest.mark.attack(
    "hostile control",
    "certify a stranger as a peer before a secure sum",
    result="open",
    open="Secure aggregation against a control that certifies strangers needs pinned keys",
)
def test_a_server_that_certifies_itself_before_the_session_is_believed_unless_keys_are_pinned() -> None:
    """The limit of certificates: whoever holds the authority's key may name a stranger s0 in the terms as well."""
    false = identity("s0", "the server's")
    members = (Member(site="s0", fingerprint=fingerprint(false.certificate)), *SEVEN.terms.members[1:])
    terms = replace(SEVEN.terms, members=members)
    adverts = []
    for site in SEVEN.sites:
        member = SEVEN.member(site)._replace(identity=false if site == "s0" else identity(site))
        session = SiteSession.join(encode(terms), member=member, history=History(), entropy=SEVEN.entropy(site))
        adverts.append(decode(session.advertise(), Advert))
    roster = encode(Roster(adverts=tuple(adverts)))
    pins = {site: key_digest(key_of(site).public_key()) for site in SEVEN.sites}
    pinned, of_strangers = (Trust(SEVEN.trust_pem, pins=known) for known in (pins, {"s1": pins["s1"]}))
    for trust, refused in ((SEVEN.trust, False), (pinned, True), (of_strangers, True)):
        member = SEVEN.member(VICTIM)._replace(trust=trust)
        victim = SiteSession.join(encode(terms), member=member, history=History(), entropy=SEVEN.entropy(VICTIM))
        if refused:
            with pytest.raises(SecureAggregationError, match=r"substituted-key.*not the pinned one"):
                victim.share(roster)
        else:
            assert victim.share(roster)


@pytest.mark.parametrize("spoil", [b"", b"{}", b'{"type":"secagg-roster/1"}', b"[]", b"\xff"])
@pytest.mark.attack("hostile control", "upset a secure sum by bytes that are no message")
def test_bytes_that_cannot_be_read_change_nothing(spoil: bytes) -> None:
    session = party().session()
    for stage in ("advertise", "share", "mask", "consent", "release"):
        before = session.sites[VICTIM].state()
        for step in (session.sites[VICTIM].share, session.sites[VICTIM].receive, session.sites[VICTIM].consent):
            with pytest.raises(SecureAggregationError) as caught:
                step(spoil)
            assert reason_of(caught.value) in {Reason.MALFORMED, Reason.OUT_OF_ORDER}
        with pytest.raises(SecureAggregationError, match="malformed"):
            session.sites[VICTIM].release(spoil, history=History())
        assert session.sites[VICTIM].state() == before
        session.play(stage)
    assert (session.total() == session.plain_total(session.survivors)).all()


@pytest.mark.attack("hostile control", "bring a revoked or expired peer into a secure sum")
def test_a_revoked_site_and_an_expired_certificate_are_no_peers(record_property: Callable[[str, object], None]) -> None:
    record_property("tries", 2)
    serial = x509.load_pem_x509_certificate(identity("s0").certificate.encode()).serial_number
    session = party().session().play_until("share")
    for trust, now in (
        (Trust(SEVEN.trust_pem, revoked=frozenset({serial})), NOW),
        (Trust(SEVEN.trust_pem), NOW + dt.timedelta(days=2)),
    ):
        member = session.party.member(VICTIM)._replace(trust=trust, now=now)
        victim = SiteSession.restore(session.sites[VICTIM].state(), member)
        with pytest.raises(SecureAggregationError, match="substituted-key"):
            victim.share(session.inbox[VICTIM])


def test_what_a_site_remembers_keeps_it_out_of_the_session_and_of_the_round() -> None:
    session = party().session().play_until("release")
    site, before = session.sites[VICTIM], History(sessions=frozenset({"00"}))
    joined = site.remembered(before)
    assert joined == History(sessions=frozenset({"00", session.party.terms.session.hex()}))
    with pytest.raises(SecureAggregationError, match="replayed-session"):
        session.party.join(VICTIM, history=joined)
    again = replace(session.party.terms, attempt=1)
    assert session.party.join(VICTIM, history=joined, terms=again).awaits == "share"
    site.release(session.inbox[VICTIM], history=joined)
    released = site.remembered(before)
    assert released.released == {("demo-00000000", 3)}
    with pytest.raises(SecureAggregationError, match="round-released"):
        session.party.join(VICTIM, history=released, terms=again)
    assert site.release(session.inbox[VICTIM], history=released) == site.reply("release")


@pytest.mark.attack("hostile control", "have a round released in two attempts")
def test_two_attempts_at_once_are_not_both_released() -> None:
    first, second = party().session(), Party(replace(SEVEN.terms, attempt=1), SEVEN.trust).session({"mask": {"s0"}})
    for session in (first, second):
        session.play_until("release")
    first.sites[VICTIM].release(first.inbox[VICTIM], history=History())
    history = first.sites[VICTIM].remembered(History())
    with pytest.raises(SecureAggregationError, match="round-released"):
        second.sites[VICTIM].release(second.inbox[VICTIM], history=history)
    assert second.sites[VICTIM].reply("release") is None
