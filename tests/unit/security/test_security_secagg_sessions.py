"""Whole sessions: exact sums whoever drops out and when, restarts at every step, and a server that is not lied to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.security.secagg import WEIGHT, Assumptions, Field, History, Layout, Reason, ServerSession, SiteSession
from archipel.security.secagg import reason_of as reason
from archipel.security.secagg.messages import Advert, Consent, Masked, Released, Sealed, Survivors
from archipel.security.secagg.trust import signed
from archipel.spec import NonFiniteError, SecureAggregationError, SpecError, decode, digest_of, encode
from secagg_party import NOW, STAGES, Party, Session, identity, key_of

replace = msgspec.structs.replace


def require_exact(session: Session, survivors: set[str]) -> None:
    """The unmasked sum is, bit for bit, the sum of the survivors' levels; and it decodes to theirs."""
    total = session.total()
    assert set(session.survivors) == survivors
    assert (total == session.plain_total(session.survivors)).all()
    layout = session.party.terms.layout
    sums = layout.decode(total, sites=len(survivors))
    values = {site: session.party.values(site) for site in survivors}
    assert sums[WEIGHT][0] == sum(weight for _, weight in values.values())
    exact = sum(given["delta"] * weight for given, weight in values.values())
    assert np.abs(sums["delta"] - exact).max() <= len(survivors) * layout.grid(layout.fields[0]).step * 100.0


# ---- drop-outs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [4, 10])
def test_with_as_many_survivors_as_the_threshold_the_sum_is_exact(count: int, stage: str) -> None:
    party = Party.of(count)
    gone = set(party.sites[: count - party.terms.shape.threshold])
    session = party.session({stage: gone})
    session.run()
    dropped = gone if stage in {"advertise", "share", "mask"} else set()
    require_exact(session, set(party.sites) - dropped)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [3, 4, 10])
def test_with_one_survivor_less_the_stage_does_not_close_and_goes_on_when_one_is_back(count: int, stage: str) -> None:
    party = Party.of(count)
    gone = set(party.sites[: count - party.terms.shape.threshold + 1])
    session = party.session({stage: gone}).play_until(stage)
    with pytest.raises(SecureAggregationError) as caught:
        session.play(stage)
    assert reason(caught.value) in {Reason.TOO_FEW_SITES, Reason.UNRECOVERABLE}
    assert session.server.stage == stage
    assert set(session.server.waiting) == gone
    back = min(gone)
    session.server.take(back, session.say(back, stage, session.inbox.get(back, b"")))
    session.inbox = session.server.close()
    session.gone = {stage: gone - {back}}
    for later in STAGES[STAGES.index(stage) + 1 :]:
        session.play(later)
    require_exact(session, set(party.sites) - (gone - {back} if stage in {"advertise", "share", "mask"} else set()))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_whoever_drops_out_and_whenever_the_sum_is_exact(data) -> None:
    party = Party.of(data.draw(st.integers(4, 13)), parameters=3)
    spare = len(party.sites) - party.terms.shape.threshold
    order = data.draw(st.permutations(party.sites))
    gone: dict[str, set[str]] = {stage: set() for stage in STAGES}
    for site in order[: data.draw(st.integers(0, spare))]:
        gone[data.draw(st.sampled_from(STAGES))].add(site)
    session = party.session(gone)
    session.run()
    require_exact(session, set(party.sites) - gone["advertise"] - gone["share"] - gone["mask"])


def test_on_a_ring_of_a_hundred_a_tenth_drops_out_at_every_stage_and_the_sum_is_exact() -> None:
    party = Party.of(100, assumptions=Assumptions(corrupt=0.05, dropout=0.10), parameters=3)
    gone = {stage: set(party.sites[2 * index : 2 * index + 2]) for index, stage in enumerate(STAGES)}
    session = party.session(gone)
    session.run()
    require_exact(session, set(party.sites[6:]))


def test_on_a_ring_more_drop_outs_than_assumed_end_the_session() -> None:
    party = Party.of(66, parameters=3)
    session = party.session({"share": set(party.sites[:7])}).play_until("share")
    assert party.terms.shape.quorum == 60
    with pytest.raises(SecureAggregationError, match="too-few-sites: 59 of 66"):
        session.play("share")


def test_a_vector_after_the_survivors_were_named_is_not_in_the_sum() -> None:
    session = Party.of(7).session({"mask": {"s5"}}).play_until("consent")
    late = session.sites["s5"]
    delivery = encode_delivery(session, "s5")
    late.receive(delivery)
    values, weight = session.party.values("s5")
    message, _ = late.mask(values, weight=weight)
    with pytest.raises(SecureAggregationError, match="malformed"):
        session.server.take("s5", message)
    session.play("consent")
    session.play("release")
    require_exact(session, set(session.party.sites) - {"s5"})


def encode_delivery(session: Session, site: str) -> bytes:
    """What `site` was sent when shares were closed."""
    return next(m for who, name, stage, m in session.log if (who, name, stage) == ("control", site, "share"))


def test_a_masked_vector_looks_like_nothing() -> None:
    """Ten bits of every word spread evenly, though all values are the same."""
    party = Party.of(3, layout=Layout(sites=3, fields=(Field(name="delta", count=2**15, low=-1.0, high=1.0),)))
    session = party.session()
    for stage in STAGES[:2]:
        session.play(stage)
    site = session.sites["s0"]
    site.receive(session.inbox["s0"])
    _, vector = site.mask({"delta": np.full(2**15, 0.5)}, weight=1.0)
    counts = np.bincount(vector >> np.uint32(22), minlength=1024)
    expected = vector.size / 1024
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 1023 + 8 * np.sqrt(2 * 1023)  # eight standard deviations: chance has no say in it


# ---- restarts ---------------------------------------------------------------------------------------------------


def test_a_site_that_is_restored_before_and_after_every_step_says_the_same_bytes() -> None:
    undisturbed, killed = Party.of(5).session(), Party.of(5).session()
    undisturbed.run()

    def say(site: str, stage: str, message: bytes) -> bytes:
        member = killed.party.member(site)
        stored = killed.sites[site].state()
        killed.sites[site] = SiteSession.restore(stored, member)
        lost = Session.say(killed, site, stage, message)  # killed before the new state is stored: it is said again
        killed.sites[site] = SiteSession.restore(stored, member)
        again = Session.say(killed, site, stage, message)
        assert again == lost
        killed.sites[site] = SiteSession.restore(killed.sites[site].state(), member)
        if stage == "mask":
            assert killed.sites[site].reply("mask") == again
        else:
            assert Session.say(killed, site, stage, message) == again
        return again

    killed.say = say
    killed.run()
    assert killed.log == undisturbed.log


def test_a_server_that_replays_what_it_recorded_sends_the_same_bytes() -> None:
    first = Party.of(7).session({"mask": {"s1"}, "release": {"s2"}})
    first.run()
    server = ServerSession(first.party.terms, first.party.trust, NOW)
    sent = []
    for stage in STAGES:
        for who, site, said_in, message in first.log:
            if (who, said_in) == ("site", stage):
                server.take(site, message)
                server.take(site, message)  # recorded twice is taken once
        sent += [("control", site, stage, message) for site, message in server.close().items()]
    assert [(who, site, message) for who, site, _, message in sent] == [
        (who, site, message) for who, site, _, message in first.log if who == "control"
    ]
    assert server.opening == first.server.opening
    assert (server.stage, server.waiting, server.close()) == ("finished", (), {})


def test_what_is_outstanding_goes_to_those_who_have_not_answered() -> None:
    session = Party.of(5).session().play_until("consent")
    answer = session.say("s2", "consent", session.inbox["s2"])
    session.server.take("s2", answer)
    assert session.server.waiting == ("s0", "s1", "s3", "s4")
    assert session.server.outstanding() == {site: session.inbox[site] for site in ("s0", "s1", "s3", "s4")}
    with pytest.raises(SecureAggregationError, match="out-of-order: the sum is not open yet: consent"):
        _ = session.server.opening


def test_secrets_leave_the_state_as_soon_as_they_are_not_needed() -> None:
    session = Party.of(5).session().play_until("mask")
    site = session.sites["s0"]
    assert decode(site.state(), dict)["entropy"]
    session.play("mask")
    assert not decode(site.state(), dict)["entropy"]
    assert decode(site.state(), dict)["held"]
    session.play("consent")
    session.play("release")
    assert not decode(site.state(), dict)["held"]
    assert site.awaits == "done"


def test_values_that_do_not_fit_cost_nothing() -> None:
    session = Party.of(3).session().play_until("mask")
    site = session.sites["s0"]
    site.receive(session.inbox["s0"])
    good, weight = session.party.values("s0")
    before = site.state()
    for bad, error in ((np.full(6, 150.0), SpecError), (np.full(6, np.nan), NonFiniteError)):
        with pytest.raises(error):
            site.mask({**good, "delta": bad}, weight=1.0)
        assert site.state() == before
    site.mask(good, weight=weight)
    with pytest.raises(SecureAggregationError, match="out-of-order: mask was called, consent is awaited"):
        site.mask(good, weight=weight)


def test_another_round_attempt_or_site_has_other_keys_even_from_the_same_entropy() -> None:
    party = Party.of(3)
    keys = set()
    for changes in ({}, {"round": 4}, {"attempt": 1}, {"run": "demo-00000001"}, {"model": digest_of(b"other")}):
        advert = decode(party.join("s0", terms=replace(party.terms, **changes)).advertise(), Advert)
        keys |= {advert.channel_key, advert.mask_key, advert.commitment}
    assert len(keys) == 15


def test_no_share_pair_of_one_site_ever_leaves_any_holder() -> None:
    session = Party.of(10).session({"mask": {"s1", "s2"}})
    session.run()
    released = [decode(one.reply("release"), Released) for one in session.sites.values() if one.reply("release")]
    assert len(released) == 8
    for one in released:
        assert not one.seeds.keys() & one.keys.keys()
        assert set(one.keys) == {"s1", "s2"}


# ---- statements a server refuses --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lie:
    why: str
    stage: str
    tell: Callable[[Session, bytes], tuple[str, bytes]]
    """What the server is told, and by whom, in place of the honest answer of s3."""
    reason: Reason


def resigned(session: Session, kind: type, answer: bytes, **changes: object) -> bytes:
    """The honest answer, changed and signed again by s3."""
    context = session.server._context or session.party.terms.session
    return encode(signed(replace(decode(answer, kind), **changes), context, key_of("s3")))


LIES = [
    Lie("no message at all", "advertise", lambda _, __: ("s3", b"hello"), Reason.MALFORMED),
    Lie("a message of another stage", "advertise", lambda s, _: ("s3", encode(Survivors(sites=()))), Reason.MALFORMED),
    Lie("in another's name", "advertise", lambda _, answer: ("s4", answer), Reason.FORGED),
    Lie("without an invitation", "advertise", lambda s, a: ("zz", encode(replace(decode(a, Advert), site="zz"))),
        Reason.NOT_A_MEMBER),
    Lie("under another certificate", "advertise",
        lambda s, a: ("s3", resigned(s, Advert, a, certificate=identity("s3", "second key").certificate)),
        Reason.SUBSTITUTED_KEY),
    Lie("under a certificate of another site", "advertise",
        lambda s, a: ("s3", resigned(s, Advert, a, certificate=identity("mole").certificate)), Reason.SUBSTITUTED_KEY),
    Lie("under no certificate", "advertise", lambda s, a: ("s3", resigned(s, Advert, a, certificate="none")),
        Reason.SUBSTITUTED_KEY),
    Lie("with keys that were not signed", "advertise",
        lambda s, a: ("s3", encode(replace(decode(a, Advert), mask_key=b"\x07" * 32))), Reason.SUBSTITUTED_KEY),
    Lie("with another's key", "advertise",
        lambda s, a: ("s3", resigned(s, Advert, a, mask_key=s.server._said["advertise"]["s0"].mask_key)),
        Reason.SUBSTITUTED_KEY),
    Lie("with one key for two ends", "advertise",
        lambda s, a: ("s3", resigned(s, Advert, a, mask_key=decode(a, Advert).channel_key)), Reason.SUBSTITUTED_KEY),
    Lie("with a share too few", "share", lambda s, a: ("s3", resigned(s, Sealed, a, shares={})), Reason.UNTRUE_SHARE),
    Lie("with shares cut short", "share",
        lambda s, a: ("s3", resigned(s, Sealed, a, shares=dict.fromkeys(decode(a, Sealed).shares, b"short"))),
        Reason.UNTRUE_SHARE),
    Lie("with a signature of another message", "share",
        lambda s, a: ("s3", encode(replace(decode(a, Sealed), signature=b"\x30\x00"))), Reason.FORGED),
    Lie("with a vector of another length", "mask", lambda s, a: ("s3", resigned(s, Masked, a, count=9)),
        Reason.MALFORMED),
    Lie("with a vector that was not signed", "mask",
        lambda s, a: ("s3", encode(replace(decode(a, Masked), vector=digest_of(b"other")))), Reason.FORGED),
    Lie("with consent to another set", "consent", lambda s, a: ("s3", resigned(s, Consent, a, survivors=bytes(32))),
        Reason.SPLIT_VIEW),
    Lie("with both shares of a site", "release",
        lambda s, a: ("s3", resigned(s, Released, a, keys=decode(a, Released).seeds)), Reason.UNTRUE_SHARE),
    Lie("with no shares", "release", lambda s, a: ("s3", resigned(s, Released, a, seeds={})), Reason.UNTRUE_SHARE),
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{lie.stage} {lie.why}")
def test_the_server_refuses_by_name_and_the_session_goes_on(lie: Lie) -> None:
    session = Party.of(7).session({lie.stage: {"s3"}} if lie.stage != "advertise" else {}).play_until(lie.stage)
    if lie.stage == "advertise":
        session.server.take("s0", session.sites["s0"].advertise())
    honest = session.say("s3", lie.stage, session.inbox.get("s3", b""))
    site, statement = lie.tell(session, honest)
    with pytest.raises(SecureAggregationError) as caught:
        session.server.take(site, statement)
    assert reason(caught.value) == lie.reason
    session.server.take("s3", honest)
    session.gone = {}
    for stage in STAGES[STAGES.index(lie.stage) :]:
        session.play(stage)
    require_exact(session, set(session.party.sites))


def test_a_second_word_in_a_stage_is_refused() -> None:
    session = Party.of(3).session()
    session.server.take("s0", session.sites["s0"].advertise())
    other = Party(session.party.terms, session.party.trust, seed=b"another start")
    with pytest.raises(SecureAggregationError, match="out-of-order: s0 has said otherwise"):
        session.server.take("s0", other.join("s0").advertise())


def test_untrue_shares_are_passed_over_and_their_sender_is_named() -> None:
    session = Party.of(10).session({"mask": {"s9"}}).play_until("release")
    for site in session.here("release"):
        answer = session.say(site, "release", session.inbox[site])
        if site == "s2":
            shares = decode(answer, Released)
            context = session.server._context
            answer = encode(signed(replace(shares, seeds={**shares.seeds, "s5": bytes(36)}), context, key_of("s2")))
        session.server.take(site, answer)
    session.server.close()
    assert session.server.untrue == {"s2": "s5"}
    require_exact(session, set(session.party.sites) - {"s9"})


def test_a_dealer_of_untrue_shares_makes_the_session_fail_by_its_name() -> None:
    session = Party.of(4).session().play_until("release")
    for site in session.here("release"):
        shares = decode(session.say(site, "release", session.inbox[site]), Released)
        spoiled = replace(shares, seeds={**shares.seeds, "s1": bytes([len(site)]) * 36})
        session.server.take(site, encode(signed(spoiled, session.server._context, key_of(site))))
    with pytest.raises(SecureAggregationError, match="unrecoverable: the 4 shares of s1 do not make its secret"):
        session.server.close()


def test_a_finished_session_takes_nothing_more() -> None:
    session = Party.of(3).session()
    session.run()
    with pytest.raises(SecureAggregationError, match="out-of-order: the session is finished"):
        session.server.take("s0", session.sites["s0"].reply("release") or b"")


def test_a_release_is_repeated_for_other_signatures_under_the_same_set() -> None:
    session = Party.of(4).session().play_until("release")
    answer = session.say("s0", "release", session.inbox["s0"])
    consents = msgspec.json.decode(session.inbox["s0"])
    consents["consents"].reverse()
    assert session.sites["s0"].release(encode(consents), history=History()) == answer
