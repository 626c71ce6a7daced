"""Differential privacy: mechanisms (clipping, noise), what they did (events), what that promises (accounting).

Pure functions and frozen values. Which job promises what: promise.py. What it protects against, and what not:
docs/concepts/differential-privacy.md.
"""

from archipel.security.privacy.accounting import delta_of, epsilon_of, require_accounting
from archipel.security.privacy.clipping import clipped, next_clip, norm_of, update_noise
from archipel.security.privacy.correlated import taps
from archipel.security.privacy.discrete import share_deviation, whole_noise
from archipel.security.privacy.events import (
    Composed,
    Correlated,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampled,
    Repeated,
    TreeAggregation,
    gaussian_of,
)
from archipel.security.privacy.fit import require_private_fit
from archipel.security.privacy.noise import NoiseStream, fresh_secret, kept_secret, run_secret, seeded_secret
from archipel.security.privacy.promise import Releases, private_steps, promised, releases_of

__all__ = [
    "Composed",
    "Correlated",
    "DiscreteGaussian",
    "Event",
    "Gaussian",
    "NoiseStream",
    "PoissonSampled",
    "Releases",
    "Repeated",
    "TreeAggregation",
    "clipped",
    "delta_of",
    "epsilon_of",
    "fresh_secret",
    "gaussian_of",
    "kept_secret",
    "next_clip",
    "norm_of",
    "private_steps",
    "promised",
    "releases_of",
    "require_accounting",
    "require_private_fit",
    "run_secret",
    "seeded_secret",
    "share_deviation",
    "taps",
    "update_noise",
    "whole_noise",
]
