"""Who sees what: from which vector rows are read back.

A secure sum is a session of the protocol as it is: keys, shares, masks, fixed point; what control decodes is inverted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from archipel.federated.private_mean import PrivateMean
from archipel.federated.secure.shared_noise import SharedNoise, widest
from archipel.security.privacy import NoiseStream, clipped, seeded_secret
from archipel.security.secagg import WEIGHT, Assumptions
from archipel.spec.privacy import CentralPrivacy, DistributedPrivacy
from inversion.leak import Array, Model, candidates, psnr_of
from robust.learning import digits
from secagg.federation import Federation

CLIP_NORM, STEP = 1.0, 2.0**-20
Draw = tuple[Model, Array, Array]


@dataclass(frozen=True)
class Scene:
    """One thing that is seen."""

    name: str
    seen: Callable[[int], tuple[Array, Array]]
    """From a seed: all rows behind what is seen, (rows, pixels), and the candidates."""

    def psnr(self, seed: int) -> Array:
        """Return each row's decibels."""
        return psnr_of(*self.seen(seed))


def plain(rows: int) -> Scene:
    """One site's update of one step."""

    def seen(seed: int) -> tuple[Array, Array]:
        model, x, y = _draw(seed, rows)
        return x, candidates(model.update(x, y))

    return Scene(f"plain update, {_rows(rows)}, one step", seen)


def plain_epochs(rows: int, epochs: int, batch_size: int) -> Scene:
    """One site's update of several steps."""

    def seen(seed: int) -> tuple[Array, Array]:
        model, x, y = _draw(seed, rows)
        return x, candidates(model.trained(x, y, epochs=epochs, batch_size=batch_size))

    return Scene(f"plain update, {_rows(rows)}, {epochs} epochs in batches of {batch_size}", seen)


def secure(sites: int, rows: int, *, made: bool = False) -> Scene:
    """The sum of a secure session; `made`: control has chosen weights that are made to be inverted."""

    def seen(seed: int) -> tuple[Array, Array]:
        model, x, y = _draw(seed, sites * rows, asleep=sites * rows if made else None)
        shares = zip(np.split(x, sites), np.split(y, sites), strict=True)
        spent = Federation([model.update(*share) for share in shares], Assumptions()).play(())
        return x, candidates(spent.sums["delta"] / spent.sums[WEIGHT][0])

    whose = "weights made for it" if made else "ordinary weights"
    return Scene(f"secure sum of {sites} sites, {_rows(rows)} each, {whose}", seen)


def central(sites: int, rows: int, noise: float) -> Scene:
    """The mean of a round with [privacy.central] that everybody gets. Control sees every update."""

    def seen(seed: int) -> tuple[Array, Array]:
        model, x, y = _draw(seed, sites * rows)
        privacy = CentralPrivacy(clip_norm=CLIP_NORM, noise_multiplier=noise)
        mean = PrivateMean(privacy, seeded_secret(seed), step=1, cohort=sites, clip_norm=CLIP_NORM)
        shares = zip(np.split(x, sites), np.split(y, sites), strict=True)
        total = sum(clipped(model.update(*share), CLIP_NORM)[0] * mean.share for share in shares)
        return x, candidates(mean.noisy(np.asarray(total)))

    return Scene(f"released mean of {sites} sites, {_rows(rows)} each, central noise {noise:g}", seen)


def shared(sites: int, rows: int, noise: float, *, made: bool = False) -> Scene:
    """The sum of a secure session in which every site has added its share of noise: [privacy.distributed]."""

    def seen(seed: int) -> tuple[Array, Array]:
        model, x, y = _draw(seed, sites * rows, asleep=sites * rows if made else None)
        privacy = DistributedPrivacy(clip_norm=CLIP_NORM, noise_multiplier=noise)
        noisy = []
        for site, share in enumerate(zip(np.split(x, sites), np.split(y, sites), strict=True)):
            stream = NoiseStream(seeded_secret(1000 * seed + site), "update")
            own = SharedNoise.of(privacy, sites, stream).on(model.update(*share), step=STEP, share=1.0)
            noisy.append(own.astype(np.float32))
        federation = Federation(noisy, Assumptions(), bound=widest(privacy), weights=[1.0] * sites)
        return x, candidates(federation.play(()).sums["delta"] / sites)

    whose = "weights made for it" if made else "ordinary weights"
    return Scene(f"secure sum of {sites} sites, {_rows(rows)} each, {whose}, shared noise {noise:g}", seen)


def examples(rows: int, noise: float) -> Scene:
    """One site's update of one step of DP-SGD, as control sees it."""

    def seen(seed: int) -> tuple[Array, Array]:
        model, x, y = _draw(seed, rows)
        secret = seeded_secret(seed)
        return x, candidates(model.private_update(x, y, clip_norm=CLIP_NORM, noise=noise, secret=secret))

    return Scene(f"plain update, {_rows(rows)}, one step of DP-SGD, noise {noise:g}", seen)


def nothing(rows: int) -> Scene:
    """No update: as many other digits as there are neurons, for comparison."""

    def seen(seed: int) -> tuple[Array, Array]:
        _, x, _ = _draw(seed, rows)
        return x, digits()[2][:256, :-1].astype(np.float64)

    return Scene(f"no update: the nearest of 256 other digits, {_rows(rows)}", seen)


def _draw(seed: int, rows: int, asleep: int | None = None) -> Draw:
    """Return a model and rows that nobody else has; the attacker's own guess of rows is of the held-out ones."""
    x, y, held_out, _ = digits()
    chance = np.random.default_rng((seed, 11))
    chosen = chance.choice(len(x), rows, replace=False)
    model = Model.drawn(chance, asleep=asleep, guess=held_out[:, :-1])
    return model, x[chosen, :-1].astype(np.float64), y[chosen]


def _rows(rows: int) -> str:
    return f"{rows} row{'s' if rows > 1 else ''}"


SCENES = (
    plain(1),
    plain(8),
    plain(32),
    plain_epochs(32, 3, 8),
    secure(3, 1),
    secure(10, 1),
    secure(50, 1),
    secure(10, 8),
    secure(10, 1, made=True),
    secure(50, 1, made=True),
    secure(10, 8, made=True),
    shared(10, 1, 0.1),
    shared(10, 1, 1.0),
    shared(50, 1, 1.0, made=True),
    central(10, 1, 0.1),
    central(10, 1, 1.0),
    examples(8, 0.1),
    examples(8, 1.0),
    nothing(10),
)
