"""Sums under secure aggregation: the protocol's stages as rounds of the coordinator, and what their vectors hold.

legs        the rounds of a sum, and which sums are secure
vector      how a site's answer becomes a vector that adds, and the total becomes sums again
session     control's side of one sum, as the coordinator drives it
exchange    the port of a mode: by_shares (SecAgg+), by_helper (a second server)
opening     the masked vectors of a spool added up and unmasked
"""
