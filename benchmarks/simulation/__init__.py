"""Rounds of virtual clients beside centralised training of the same examples."""
