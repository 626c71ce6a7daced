"""Secure aggregation with a helper: each site says one thing, and two servers together make the sum of it.

Control adds up masked vectors; the helper, a neutral site of the fleet, adds up the masks, whose seeds are sealed to
it. Neither learns a site's vector unless both collude (the trust model of DAP's aggregators, draft-ietf-ppm-dap; the
shares of Prio, Corrigan-Gibbs & Boneh, NSDI 2017). Pure objects: bytes in, bytes out, no clock, no socket, no disk.
terms.py says what all sides agree on, messages.py what they say; site.py, helper.py and server.py are the three sides.
Numbers, masks, keys and identities are those of `secagg`.
What it protects against, and what not: docs/concepts/secure-aggregation.md.
"""

from archipel.security.two_server.helper import HelperSession
from archipel.security.two_server.seat import Seat
from archipel.security.two_server.server import ServerSession
from archipel.security.two_server.site import SiteAnswer
from archipel.security.two_server.terms import Party, Terms

__all__ = ["HelperSession", "Party", "Seat", "ServerSession", "SiteAnswer", "Terms"]
