"""A job and what is known of its sites in, a plan out: participants, bytes and time, as pure functions."""

from __future__ import annotations

from archipel.planner.plan import draw_plan
from archipel.planner.traffic import Sizes

__all__ = ["Sizes", "draw_plan"]
