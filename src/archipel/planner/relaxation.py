"""A bound on the time of the last machine, and shares to round, where the linear program would take too long.

    bound, share = price_out(seconds, more=lambda: clock() < end)

Give each machine a price y; each job goes to where price times time is least. For any prices the sum of these least
products over the sum of prices is a bound (Lagrange), and it is that of the linear program at the best prices, to which
prices that rise with load come close (multiplicative weights: Plotkin, Shmoys, Tardos, Math. Oper. Res. 20, 1995). How
often a job went to a machine is then nearly its share in the program's solution.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_STEPS = 600
"""On drawn instances the bound is then within 0.6 % of the linear program's, and 0.01 % with 200 machines."""
_LEARNED = 300
"""Steps before shares count: the first prices are far off."""


def price_out(seconds: Floats, *, more: Callable[[], bool]) -> tuple[float, Floats]:
    """Return the bound, and how large a share of each job (row) went to each machine (column).

    Args:
        seconds: Jobs x machines; infinity where a job may not run. Each job may run somewhere.
        more: May another step be taken? Asked once a step, after the first.
    """
    job, machine = np.nonzero(np.isfinite(seconds))
    time, begins = seconds[job, machine], np.searchsorted(job, np.arange(len(seconds)))
    logarithm = np.zeros(seconds.shape[1])
    counts, best = np.zeros(len(job)), 0.0
    for step in range(1, _STEPS + 1):
        price = np.exp(logarithm - logarithm.max())
        paid = price[machine] * time
        least = np.minimum.reduceat(paid, begins)
        best = max(best, float(least.sum() / price.sum()))
        chosen = np.flatnonzero(paid == least[job])
        loads = np.bincount(machine[chosen], weights=time[chosen], minlength=len(price))
        logarithm += 0.5 * (loads / max(float(loads.mean()), 1e-300) - 1) / np.sqrt(step)
        if step == _LEARNED:
            counts[:] = 0
        counts[chosen] += 1
        if not more():
            break
    share = np.zeros_like(seconds)
    share[job, machine] = counts
    return best, share / share.sum(axis=1, keepdims=True)
