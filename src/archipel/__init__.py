"""Archipel: AI infrastructure for data that may not move.

Sites keep their rows; one model is trained across them, brought back to the edge and served there.
The rooms of this package, and what each may import, are listed in docs/concepts/rooms.md.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
