"""NumpyTask: what a user derives from for a classifier on columns, without any ML framework.

    class Penguins(NumpyTask):
        classes = ("Adelie", "Chinstrap", "Gentoo")
        features = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
        label = "species"

        def read(self, site, statistics):
            samples = self.samples(site)                      # the contract's columns; labels as class numbers
            held_out = site.row_ids % 5 == 0                  # the same rule at every site
            return Split(train=rows_of(samples, ~held_out), test=rows_of(samples, held_out))

The default model is one hidden layer over features scaled by the statistics of all sites' training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.data.site_data import SiteData
from archipel.spec import ShapeError
from archipel.tasks.labels import encode_labels
from archipel.tasks.numpy.network import Network
from archipel.tasks.port import Samples, Split, Sums, row_count
from archipel.tasks.scaling import feature_sums, scaling


class NumpyTask:
    """Base of tasks for framework = "numpy"; a subclass names classes, features and label, and gives `read`."""

    classes: Sequence[str] = ()
    """Names of the classes, in the order of the model's outputs."""
    features: Sequence[str] = ()
    """Sample names that the model takes, one number a row each (or one sample of shape (rows, features))."""
    label: str = "label"
    """Sample name of the class numbers."""
    outputs: Sequence[str] = ("probabilities",)
    """Name of the exported model's output."""

    def statistics(self, site: SiteData) -> Sums:
        """Sums of this site's training features, for scaling; override with `return {}` to disclose none."""
        return feature_sums(feature_matrix(self.read(site, {}).train, self.features))

    def read(self, site: SiteData, statistics: Sums) -> Split:
        """Turn the site's data set into arrays: features as numbers, the label as class numbers."""
        raise NotImplementedError("give your task a method read(self, site, statistics) that returns a Split")

    def model(self, statistics: Sums) -> Network:
        """Describe the network; the default has one hidden layer of 16."""
        mean, scale = scaling(statistics)
        return Network(inputs=len(self.features), hidden=(16,), outputs=len(self.classes), mean=mean, scale=scale)

    def samples(self, site: SiteData) -> Samples:
        """Return the features and the encoded label of a data set whose contract names them as columns."""
        columns: dict[str, npt.NDArray[Any]] = {name: site.columns[name] for name in self.features}
        columns[self.label] = encode_labels(site.columns[self.label], self.classes)
        return columns


def feature_matrix(samples: Samples, features: Sequence[str]) -> npt.NDArray[np.float64]:
    """Stack the features side by side as (rows, inputs) float64."""
    columns = []
    for name in features:
        if name not in samples:
            raise ShapeError(f"read() gives no {name!r}", hint=f"it gives {', '.join(samples)}")
        # Checked here, for numpy's own error would repeat a cell's content, and errors may leave the site.
        if samples[name].dtype.kind not in "fiub" or samples[name].ndim > 2:
            raise ShapeError(
                f"feature {name!r} is {samples[name].dtype} of shape {samples[name].shape}",
                hint="give numbers of shape (rows,) or (rows, width)",
            )
        array = samples[name].astype(np.float64)
        columns.append(array.reshape(len(array), -1) if len(array) else array.reshape(0, *(array.shape[1:] or (1,))))
    if not columns:
        raise ShapeError("the task names no features", hint='set features = ("…",) on the task')
    return np.hstack(columns) if row_count(samples) else np.empty((0, sum(c.shape[1] for c in columns)))


def rows_of(samples: Samples, chosen: npt.NDArray[Any]) -> Samples:
    """Return the chosen rows (a mask or row numbers) of every sample."""
    return {name: array[chosen] for name, array in samples.items()}
