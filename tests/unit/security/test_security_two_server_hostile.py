"""Hostile moves against a sum with a helper: each ends by name, at an honest party, with nothing released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from archipel.security import key_digest
from archipel.security.secagg import History, Reason, Trust, reason_of
from archipel.security.secagg.derivation import Label, hash_of
from archipel.security.secagg.masks import apply_masks
from archipel.security.secagg.trust import signed
from archipel.security.two_server import HelperSession, Party, Terms
from archipel.security.two_server.messages import Correction, Gathered, HelperKey, Invitation, Masked
from archipel.security.two_server.seeds import opened_mask
from archipel.spec import SecureAggregationError, decode, encode
from secagg_party import authority, identity
from two_server_party import HELPER, HelpedParty, HelpedSession, party_of

replace = msgspec.structs.replace
VICTIM = "s3"
Move = Callable[[HelpedSession], object]


def gathered_of(session: HelpedSession) -> tuple[Masked, ...]:
    return decode(session.gather().gathered, Gathered).masked


def asks(session: HelpedSession, masked: tuple[Masked, ...]) -> None:
    """Have the helper take the masks of these off."""
    session.helper.release(encode(Gathered(masked=masked)), history=History())


def context_of(session: HelpedSession) -> bytes:
    """What statements of the session are signed over."""
    return session.server._context


def invitation(session: HelpedSession) -> Invitation:
    return decode(session.invite().invitations[VICTIM], Invitation)


def invites(session: HelpedSession, changed: Invitation, **seat: object) -> None:
    session.party.answer(VICTIM, encode(changed), **seat)


def with_terms(session: HelpedSession, **changes: object) -> Terms:
    return replace(session.party.terms, **changes)


# ---- control, of the helper -------------------------------------------------------------------------------------


def asks_the_helper_for_one_site(session: HelpedSession) -> None:
    asks(session, tuple(one for one in gathered_of(session) if one.site == VICTIM))


def asks_the_helper_for_one_site_many_times(session: HelpedSession) -> None:
    [mine] = [one for one in gathered_of(session) if one.site == VICTIM]
    asks(session, (mine, mine, mine))


def asks_for_fewer_than_the_helpers_own_policy(session: HelpedSession) -> None:
    masked = gathered_of(session)
    strict = session.party.seat(HELPER, least_sites=5)
    HelperSession.restore(session.helper.state(), strict).release(
        encode(Gathered(masked=masked[:4])), history=History()
    )


def asks_for_two_sets(session: HelpedSession) -> None:
    masked = gathered_of(session)
    asks(session, masked)
    asks(session, masked[:-1])


def asks_for_two_sets_over_a_restart(session: HelpedSession) -> None:
    masked = gathered_of(session)
    asks(session, masked)
    again = HelperSession.restore(session.helper.state(), session.party.seat(HELPER))
    again.release(encode(Gathered(masked=masked[:-1])), history=History())


def asks_for_the_round_again_with_other_keys(session: HelpedSession) -> None:
    session.play()
    session.party.help(with_terms(session, attempt=1), session.helper.remembered(History()))


def asks_two_attempts_of_a_round_side_by_side(session: HelpedSession) -> None:
    """Both attempts have keys; once one is opened, the other is not."""
    other = session.party.again(b"other").session().gather()
    session.play()
    other.helper.release(other.gathered, history=session.helper.remembered(History()))


def replays_a_session(session: HelpedSession) -> None:
    session.play()
    history = History(sessions=session.helper.remembered(History()).sessions)
    session.party.help(history=history)


def swaps_seeds_between_sites(session: HelpedSession) -> None:
    first, second, *others = gathered_of(session)
    swapped = (replace(first, seed=second.seed, channel_key=second.channel_key), second, *others)
    asks(session, swapped)


def brings_a_seed_of_another_session(session: HelpedSession) -> None:
    other = session.party.again(b"other").session()
    strange = gathered_of(other)[0]
    asks(session, (strange, *gathered_of(session)[1:]))


def seals_a_seed_of_its_own(session: HelpedSession) -> None:
    """Under a site's name, but with the signature of a key of control's."""
    mine, *others = gathered_of(session)
    forged = replace(mine, seed=bytes(48), signature=b"")
    asks(session, (signed(forged, context_of(session), identity("stranger").key), *others))


def certifies_a_key_of_its_own_for_a_site(session: HelpedSession) -> None:
    """Control is the authority, but the terms that sites agreed to name another key."""
    mine, *others = gathered_of(session)
    stolen = identity(mine.site, "control")
    forged = replace(mine, certificate=stolen.certificate, signature=b"")
    asks(session, (signed(forged, context_of(session), stolen.key), *others))


def a_corrupt_site_seals_another_sites_seed(session: HelpedSession) -> None:
    """A site that works with control signs, as its own, what an honest one sealed: the helper does not open it."""
    corrupt, honest, *others = gathered_of(session)
    copied = replace(corrupt, seed=honest.seed, channel_key=honest.channel_key, signature=b"")
    asks(session, (signed(copied, context_of(session), identity(corrupt.site).key), honest, *others))


def adds_a_site_nobody_invited(session: HelpedSession) -> None:
    stranger = identity("stranger")
    masked = gathered_of(session)
    uninvited = replace(masked[-1], site="stranger", certificate=stranger.certificate, signature=b"")
    asks(session, (*masked, replace(signed(uninvited, context_of(session), stranger.key), site="stranger")))


def makes_the_helper_one_of_the_sites(session: HelpedSession) -> None:
    parties = sorted((*session.party.terms.parties, party_of(HELPER)), key=lambda party: party.site)
    session.party.help(with_terms(session, parties=tuple(parties)))


def surrounds_the_victim_at_a_helper_that_knows_its_sites(session: HelpedSession) -> None:
    known = {party.site: party.key for party in session.party.terms.parties[:4]}
    session.party.help(peers=known)


def asks_the_helper_for_a_sum_over_two(session: HelpedSession) -> None:
    session.party.help(with_terms(session, parties=session.party.terms.parties[:2]))


def asks_a_helper_for_less_than_its_policy(session: HelpedSession) -> None:
    session.party.help(least_sites=5)


def makes_another_site_the_helper(session: HelpedSession) -> None:
    session.party.help(with_terms(session, helper="stranger"))


# ---- control, of a site -----------------------------------------------------------------------------------------


def lies_about_the_helpers_key(session: HelpedSession) -> None:
    """A key that the helper did not sign."""
    invited = invitation(session)
    invites(session, replace(invited, key=replace(invited.key, channel_key=b"\x09" + bytes(31))))


def signs_the_helpers_key_with_a_certificate_of_its_own(session: HelpedSession) -> None:
    """Where the owner pinned the helper's key, control's authority does not help it."""
    invited = invitation(session)
    stolen = identity(HELPER, "control")
    key = replace(invited.key, channel_key=b"\x09" + bytes(31), certificate=stolen.certificate, signature=b"")
    pins = {HELPER: key_digest(identity(HELPER).key.public_key())}
    forged = replace(invited, key=signed(key, session.party.terms.session, stolen.key))
    invites(session, forged, trust=Trust(authority().pem, pins=pins))


def puts_another_helper_in_its_place(session: HelpedSession) -> None:
    invited = invitation(session)
    stranger = identity("stranger")
    key = replace(invited.key, site="stranger", certificate=stranger.certificate, signature=b"")
    invites(session, replace(invited, key=signed(key, session.party.terms.session, stranger.key)))


def lets_a_site_of_the_sum_help_under_the_helpers_name(session: HelpedSession) -> None:
    """One key, certified twice: as a site that adds to the sum, and as the helper."""
    stolen = identity(HELPER, "s0")
    key = HelperKey(site=HELPER, certificate=stolen.certificate, channel_key=b"\x09" + bytes(31))
    invites(session, Invitation(terms=session.party.terms, key=signed(key, session.party.terms.session, stolen.key)))


def makes_a_key_without_a_secret(session: HelpedSession) -> None:
    """A point of small order, signed by a helper that works with control: but then it could as well tell its seeds."""
    invited = invitation(session)
    key = replace(invited.key, channel_key=bytes(32), signature=b"")
    invites(session, replace(invited, key=signed(key, session.party.terms.session, identity(HELPER).key)))


def invites_twice_into_one_session(session: HelpedSession) -> None:
    terms = session.party.terms
    invites(session, invitation(session))
    session.party.answer(VICTIM, session.invitations[VICTIM], History(sessions=frozenset({terms.session.hex()})))


def invites_to_a_sum_that_may_be_opened_over_fewer(session: HelpedSession) -> None:
    invites(session, invitation(session), least_sites=4)


def invites_too_few(session: HelpedSession) -> None:
    invites(session, invitation(session), least_sites=6)


def invites_under_another_key(session: HelpedSession) -> None:
    invited = invitation(session)
    mine = Party(site=VICTIM, key=party_of(VICTIM, "control").key)
    parties = tuple(mine if party.site == VICTIM else party for party in session.party.terms.parties)
    invites(session, replace(invited, terms=with_terms(session, parties=parties)))


def changes_the_terms_once_the_helper_has_signed(session: HelpedSession) -> None:
    """Another model under the same key: the helper's signature is over the terms."""
    invites(session, replace(invitation(session), terms=with_terms(session, attempt=7)))


def surrounds_a_site_that_knows_its_peers(session: HelpedSession) -> None:
    known = {party.site: party.key for party in session.party.terms.parties[:4]}
    invites(session, invitation(session), peers=known)


def makes_room_for_fewer_sites(session: HelpedSession) -> None:
    layout = replace(session.party.terms.layout, sites=4)
    session.party.help(with_terms(session, layout=layout))


# ---- sites and the helper, of control ---------------------------------------------------------------------------


def takes(session: HelpedSession, site: str, message: Masked | Correction, by: str) -> None:
    session.server.take(site, encode(signed(message, context_of(session), identity(by).key)))


def said(session: HelpedSession, site: str) -> Masked:
    message, _ = session.party.answer(site, session.invite().invitations[site])
    return replace(decode(message, Masked), signature=b"")


def a_site_sends_a_vector_of_another_length(session: HelpedSession) -> None:
    mine = said(session, "s0")
    takes(session, "s0", replace(mine, count=mine.count + 1), by="s0")


def a_site_speaks_for_another(session: HelpedSession) -> None:
    mine = said(session, "s0")
    session.server.take("s1", encode(signed(mine, context_of(session), identity("s0").key)))


def a_site_signs_with_another_key(session: HelpedSession) -> None:
    takes(session, "s0", said(session, "s0"), by="s1")


def a_site_says_two_things(session: HelpedSession) -> None:
    mine = said(session, "s0")
    takes(session, "s0", mine, by="s0")
    takes(session, "s0", replace(mine, seed=bytes(48)), by="s0")


def a_stranger_answers(session: HelpedSession) -> None:
    mine = said(session, "s0")
    stranger = replace(mine, site="stranger", certificate=identity("stranger").certificate)
    takes(session, "stranger", stranger, by="stranger")


def the_helper_corrects_another_set(session: HelpedSession) -> None:
    masked = gathered_of(session)
    correction, _ = session.helper.release(encode(Gathered(masked=masked[:-1])), history=History())
    session.server.take(HELPER, correction)


def the_helper_corrects_another_length(session: HelpedSession) -> None:
    session.gather()
    correction, _ = session.helper.release(session.gathered, history=History())
    mine = replace(decode(correction, Correction), count=1, signature=b"")
    takes(session, HELPER, mine, by=HELPER)


def a_site_answers_for_the_helper(session: HelpedSession) -> None:
    session.gather()
    correction, _ = session.helper.release(session.gathered, history=History())
    mine = replace(decode(correction, Correction), site="s0", signature=b"")
    takes(session, "s0", mine, by="s0")


def a_site_advertises_for_the_helper(session: HelpedSession) -> None:
    key = HelperKey(site="s0", certificate=identity("s0").certificate, channel_key=b"\x09" + bytes(31))
    session.server.take("s0", encode(signed(key, session.party.terms.session, identity("s0").key)))


# ---- the table --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    move: Move
    reason: Reason
    released: bool = False
    """Were masks taken off before, over the one set that there is?"""


OF_THE_HELPER = (
    Row(asks_the_helper_for_one_site, Reason.TOO_FEW_SITES),
    Row(asks_the_helper_for_one_site_many_times, Reason.MALFORMED),
    Row(asks_for_fewer_than_the_helpers_own_policy, Reason.TOO_FEW_SITES),
    Row(asks_for_two_sets, Reason.SECOND_SURVIVOR_SET, released=True),
    Row(asks_for_two_sets_over_a_restart, Reason.SECOND_SURVIVOR_SET, released=True),
    Row(asks_for_the_round_again_with_other_keys, Reason.ROUND_RELEASED, released=True),
    Row(asks_two_attempts_of_a_round_side_by_side, Reason.ROUND_RELEASED, released=True),
    Row(replays_a_session, Reason.REPLAYED_SESSION, released=True),
    Row(swaps_seeds_between_sites, Reason.FORGED),
    Row(brings_a_seed_of_another_session, Reason.FORGED),
    Row(seals_a_seed_of_its_own, Reason.FORGED),
    Row(certifies_a_key_of_its_own_for_a_site, Reason.SUBSTITUTED_KEY),
    Row(a_corrupt_site_seals_another_sites_seed, Reason.UNTRUE_SHARE),
    Row(adds_a_site_nobody_invited, Reason.NOT_A_MEMBER),
    Row(makes_the_helper_one_of_the_sites, Reason.MALFORMED),
    Row(surrounds_the_victim_at_a_helper_that_knows_its_sites, Reason.SUBSTITUTED_KEY),
    Row(asks_the_helper_for_a_sum_over_two, Reason.SMALL_COHORT),
    Row(asks_a_helper_for_less_than_its_policy, Reason.WEAK_TERMS),
    Row(makes_another_site_the_helper, Reason.NOT_A_MEMBER),
    Row(makes_room_for_fewer_sites, Reason.MALFORMED),
)
OF_A_SITE = (
    Row(lies_about_the_helpers_key, Reason.SUBSTITUTED_KEY),
    Row(signs_the_helpers_key_with_a_certificate_of_its_own, Reason.SUBSTITUTED_KEY),
    Row(puts_another_helper_in_its_place, Reason.SUBSTITUTED_KEY),
    Row(lets_a_site_of_the_sum_help_under_the_helpers_name, Reason.SUBSTITUTED_KEY),
    Row(makes_a_key_without_a_secret, Reason.SUBSTITUTED_KEY),
    Row(invites_twice_into_one_session, Reason.REPLAYED_SESSION),
    Row(invites_to_a_sum_that_may_be_opened_over_fewer, Reason.WEAK_TERMS),
    Row(invites_too_few, Reason.SMALL_COHORT),
    Row(invites_under_another_key, Reason.NOT_A_MEMBER),
    Row(changes_the_terms_once_the_helper_has_signed, Reason.SUBSTITUTED_KEY),
    Row(surrounds_a_site_that_knows_its_peers, Reason.SUBSTITUTED_KEY),
)
OF_CONTROL = (
    Row(a_site_sends_a_vector_of_another_length, Reason.MALFORMED),
    Row(a_site_speaks_for_another, Reason.FORGED),
    Row(a_site_signs_with_another_key, Reason.FORGED),
    Row(a_site_says_two_things, Reason.OUT_OF_ORDER),
    Row(a_stranger_answers, Reason.NOT_A_MEMBER),
    Row(the_helper_corrects_another_set, Reason.SPLIT_VIEW),
    Row(the_helper_corrects_another_length, Reason.MALFORMED),
    Row(a_site_answers_for_the_helper, Reason.NOT_A_MEMBER),
    Row(a_site_advertises_for_the_helper, Reason.SUBSTITUTED_KEY),
)


def ends_by_name(row: Row) -> HelpedSession:
    session = HelpedParty.of(5).session()
    with pytest.raises(SecureAggregationError) as caught:
        row.move(session)
    assert reason_of(caught.value) == row.reason, caught.value.message
    assert caught.value.hint
    return session


@pytest.mark.parametrize("row", OF_THE_HELPER, ids=lambda row: row.move.__name__)
@pytest.mark.attack("hostile control", "get masks of single sites out of the helper: {row.reason.value}")
def test_the_helper_refuses_by_name_and_no_mask_is_off(row: Row) -> None:
    helper = ends_by_name(row).helper
    released = decode(helper.state(), dict)["reply"] != ""
    assert released == row.released
    assert released or helper.state() == HelpedParty.of(5).help().state(), "what is refused changes nothing"


@pytest.mark.parametrize("row", OF_A_SITE, ids=lambda row: row.move.__name__)
@pytest.mark.attack(
    "hostile control",
    "make a site seal its seed to somebody else, or add to a weaker sum: {row.reason.value}",
    open="Control and the helper together see everything.",
)
def test_a_site_refuses_by_name_and_says_nothing(row: Row) -> None:
    ends_by_name(row)


@pytest.mark.parametrize("row", OF_CONTROL, ids=lambda row: row.move.__name__)
@pytest.mark.attack("hostile site", "spoil a sum with a helper by a false statement: {row.reason.value}")
def test_control_refuses_a_false_statement_by_name_and_goes_on(row: Row) -> None:
    ends_by_name(row)


@pytest.mark.attack(
    "hostile control",
    "be the helper under a key that it certifies itself",
    result="open",
    open="Where a site has not pinned the helper's key, control can certify a key of its own in the helper's name and "
    "read that site's updates.",
)
def test_control_that_certifies_its_own_helper_reads_a_site_that_has_pinned_no_key() -> None:
    session = HelpedParty.of(5).session()
    channel, stolen = X25519PrivateKey.from_private_bytes(bytes(range(32))), identity(HELPER, "control")
    unsigned = HelperKey(
        site=HELPER, certificate=stolen.certificate, channel_key=channel.public_key().public_bytes_raw()
    )
    key = signed(unsigned, session.party.terms.session, stolen.key)
    message, vector = session.party.answer(VICTIM, encode(Invitation(terms=session.party.terms, key=key)))
    said = decode(message, Masked)
    context = hash_of(session.party.terms.session, Label.CONTEXT, encode(key))
    apply_masks(vector, added=[], removed=[opened_mask(channel, context, VICTIM, said.channel_key, said.seed)])
    values, weight = session.party.values_of.values(VICTIM)
    layout = session.party.terms.layout
    read = layout.decode(vector, sites=1)["delta"] / weight
    assert read == pytest.approx(values["delta"], abs=1e-6)
