"""Rounds: runs under way. An event is kept, then handled by the coordinator, then its instructions are carried out."""
