"""Sums with a helper: the total is that of the survivors, nobody alone reads a vector, restarts change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.security import two_server
from archipel.security.secagg import History
from archipel.security.two_server import HelperSession
from archipel.security.two_server.messages import Correction, Masked
from archipel.spec import SecureAggregationError, SpecError, decode, digest_of
from secagg_party import names
from two_server_party import HELPER, HelpedParty


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_the_total_is_the_sum_of_those_who_answered(data: st.DataObject) -> None:
    party = HelpedParty.of(data.draw(st.integers(3, 9)))
    gone = data.draw(st.sets(st.sampled_from(party.sites), max_size=len(party.sites) - 3))
    session = party.session(gone)
    total = session.run()
    survivors = tuple(site for site in party.sites if site not in gone)
    assert session.server.survivors == survivors
    assert np.array_equal(total, session.plain_total(survivors))


def test_more_than_half_may_drop_out_and_fewer_than_the_least_may_not_be_left() -> None:
    party = HelpedParty.of(9)
    party.session({"s0", "s1", "s2", "s3", "s4", "s5"}).run()
    with pytest.raises(SecureAggregationError, match="too-few-sites: 2 of 9 sites answered in stage mask, at least 3"):
        party.session({"s0", "s1", "s2", "s3", "s4", "s5", "s6"}).gather()


def test_a_masked_vector_without_the_helpers_is_noise() -> None:
    """1,200 words of one value, masked: their mean is that of uniform words, to five standard deviations."""
    session = HelpedParty.of(3, parameters=1200).session().play()
    words = session.vectors["s0"].astype(np.float64) / 2.0**32
    assert abs(words.mean() - 0.5) < 5 / np.sqrt(12 * words.size)
    corrected = session.vectors[HELPER].astype(np.float64) / 2.0**32
    assert abs(corrected.mean() - 0.5) < 5 / np.sqrt(12 * corrected.size)
    with_helper = (session.vectors["s0"] + session.vectors[HELPER]).astype(np.float64) / 2.0**32
    assert abs(with_helper.mean() - 0.5) < 5 / np.sqrt(12 * with_helper.size)


def test_another_attempt_masks_with_other_words_and_comes_to_the_same_levels() -> None:
    party = HelpedParty.of(4)
    first, second = party.session().play(), party.again(b"other").session().play()
    assert not np.array_equal(first.vectors["s0"], second.vectors["s0"])
    decoded = [one.party.terms.layout.decode(one.total(), sites=4)["delta"] for one in (first, second)]
    assert np.allclose(*decoded, atol=4 * party.terms.layout.grid(party.terms.layout.fields[0]).step * 100)


def test_the_helper_says_the_same_bytes_after_each_restart_and_drops_its_key_with_its_answer() -> None:
    session = HelpedParty.of(4).session().gather()
    seat = session.party.seat(HELPER)
    kept = session.helper.state()
    assert HelperSession.restore(kept, seat).advertise() == session.helper.advertise()
    first, vector = HelperSession.restore(kept, seat).release(session.gathered, history=History())
    again, same = HelperSession.restore(kept, seat).release(session.gathered, history=History())
    assert (first, vector.tobytes()) == (again, same.tobytes())
    session.helper.release(session.gathered, history=History())
    after = session.helper.state()
    assert HelperSession.restore(after, seat).release(session.gathered, history=History()) == (first, None)
    assert decode(after, dict)["entropy"] == ""
    assert decode(kept, dict)["entropy"] != ""


def test_control_rebuilt_from_what_it_was_told_says_the_same() -> None:
    session = HelpedParty.of(4).session({"s2"}).play()
    other = HelpedParty.of(4).session({"s2"}).server
    other.take(HELPER, session.helper.advertise())
    assert other.close() == session.invitations
    for site, masked in reversed(session.masked.items()):
        other.take(site, masked)
        other.take(site, masked)
    assert other.close() == {HELPER: session.gathered}
    other.take(HELPER, session.correction)
    assert (other.close(), other.stage, other.survivors) == ({}, "finished", ("s0", "s1", "s3"))


def test_what_site_and_helper_remember_keeps_sessions_and_released_rounds_apart() -> None:
    session = HelpedParty.of(3).session().gather()
    terms = session.party.terms
    before = session.helper.remembered(History())
    assert before == History(sessions=frozenset({terms.session.hex()}))
    session.helper.release(session.gathered, history=before)
    assert session.helper.remembered(before).released == {(terms.run, terms.round)}


def test_a_seed_is_a_secret_of_site_and_helper_alone() -> None:
    """What control holds of a site: 48 sealed bytes, and the other 32 are the site's own key for them."""
    session = HelpedParty.of(3).session().gather()
    said = decode(session.masked["s0"], Masked)
    assert (len(said.seed), len(said.channel_key)) == (48, 32)
    others = {bytes(decode(session.masked[site], Masked).seed) for site in names(3)}
    assert len(others) == 3


def test_a_vector_out_of_range_is_refused_and_nothing_is_said() -> None:
    party = HelpedParty.of(3)
    session = party.session().invite()
    answer = two_server.SiteAnswer.to(
        session.invitations["s0"], seat=party.seat("s0"), history=History(), entropy=bytes(32)
    )
    values, weight = party.values_of.values("s0")
    with pytest.raises(SpecError, match="outside"):
        answer.mask({**values, "loss_sum": np.array([1e9])}, weight=weight)


def test_bytes_that_are_no_message_are_refused_by_name() -> None:
    session = HelpedParty.of(3).session()
    with pytest.raises(SecureAggregationError, match="malformed"):
        session.server.take(HELPER, b"{}")
    with pytest.raises(SecureAggregationError, match="malformed"):
        session.party.answer("s0", b"[]")
    with pytest.raises(SecureAggregationError, match="malformed"):
        session.helper.release(b"", history=History())


def test_what_is_public_is_listed() -> None:
    assert all(hasattr(two_server, name) for name in two_server.__all__)


def test_the_digest_that_is_signed_is_of_the_vector_that_goes_along() -> None:
    session = HelpedParty.of(3).session().play()
    for site, message in session.masked.items():
        assert decode(message, Masked).vector == digest_of(session.vectors[site].tobytes())
    assert decode(session.correction, Correction).vector == digest_of(session.vectors[HELPER].tobytes())
