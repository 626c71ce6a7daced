"""Will this flight arrive more than 15 minutes late? From the timetable alone, by a very small network."""

from pathlib import Path

import numpy as np

from archipel.data.site_data import SiteData
from archipel.tasks.numpy import Network, NumpyTask, Split, Sums, rows_of

NUMBERS = ("morning", "evening", "late_day", "winter", "spring", "summer", "distance", "EWR", "JFK", "LGA")


class Flights(NumpyTask):
    """Late or on time."""

    classes = ("on time", "late")
    features = NUMBERS
    label = "late"

    def statistics(self, site: SiteData) -> Sums:  # noqa: ARG002
        """Ask for no sums: the numbers are scaled by constants."""
        return {}

    def read(self, site: SiteData, statistics: Sums) -> Split:  # noqa: ARG002
        """Hold out the last five days of every month."""
        rows = dict(np.load(Path(site.path) / "flights.npz"))
        test = rows.pop("day") > 26
        return Split(train=rows_of(rows, ~test), test=rows_of(rows, test))

    def model(self, statistics: Sums) -> Network:  # noqa: ARG002
        """One small hidden layer: the fewer weights, the less noise there is in all."""
        count = len(NUMBERS)
        return Network(inputs=count, hidden=(8,), outputs=2, mean=np.zeros(count), scale=np.ones(count))
