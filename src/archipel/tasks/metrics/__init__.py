"""Metric families: sums that leave a site and add over sites, and the figures anybody computes from them."""

from archipel.tasks.metrics.classification import Classification
from archipel.tasks.metrics.disclosed import added, disclosed
from archipel.tasks.metrics.families import FAMILIES, breakdowns, is_lower_better, summarise
from archipel.tasks.metrics.tagging import Tagging, end_to_end

__all__ = [
    "FAMILIES",
    "Classification",
    "Tagging",
    "added",
    "breakdowns",
    "disclosed",
    "end_to_end",
    "is_lower_better",
    "summarise",
]
