"""The adapter without a framework: small dense networks, forward and backward by hand, on one flat vector."""

from archipel.tasks.numpy.network import Network
from archipel.tasks.numpy.task import NumpyTask, rows_of
from archipel.tasks.port import Samples, Split, Sums
from archipel.tasks.scaling import feature_sums, scaling

__all__ = ["Network", "NumpyTask", "Samples", "Split", "Sums", "feature_sums", "rows_of", "scaling"]
