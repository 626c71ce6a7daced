"""Rounds over uneven fleets: how long they are, what they waste, and whom they silence."""
