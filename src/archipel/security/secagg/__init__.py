"""Secure aggregation: control learns the sum of the sites' vectors, and no single one of them.

SecAgg+ (Bell et al., CCS 2020; Bonawitz et al., CCS 2017) with signed keys and a round in which sites agree on who
survived. Pure objects: bytes in, bytes out, no clock, no socket, no disk. `SiteSession` is a site's side,
`ServerSession` control's; terms.py says what they agree on, messages.py what they say, encoding.py how numbers add.
What it protects against, and what not: docs/concepts/secure-aggregation.md.
"""

from archipel.security.secagg.abort import Reason, reason_of
from archipel.security.secagg.encoding import WEIGHT, Field, Layout, Levels
from archipel.security.secagg.graph import Graph
from archipel.security.secagg.masks import apply_masks
from archipel.security.secagg.parameters import Assumptions, Policy, Shape, quorum_of, shape_for
from archipel.security.secagg.server import Opening, ServerSession
from archipel.security.secagg.site import History, Membership, SiteSession
from archipel.security.secagg.terms import Member, Terms
from archipel.security.secagg.trust import Identity, Trust

__all__ = [
    "WEIGHT",
    "Assumptions",
    "Field",
    "Graph",
    "History",
    "Identity",
    "Layout",
    "Levels",
    "Member",
    "Membership",
    "Opening",
    "Policy",
    "Reason",
    "ServerSession",
    "Shape",
    "SiteSession",
    "Terms",
    "Trust",
    "apply_masks",
    "quorum_of",
    "reason_of",
    "shape_for",
]
