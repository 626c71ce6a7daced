"""The adapter for PyTorch: a user's nn.Module on one flat vector, and the loop that trains it."""

from archipel.tasks.labels import encode_labels
from archipel.tasks.port import Samples, Split, Sums
from archipel.tasks.scaling import feature_sums, scaling
from archipel.tasks.torch.task import Batch, TorchTask

__all__ = ["Batch", "Samples", "Split", "Sums", "TorchTask", "encode_labels", "feature_sums", "scaling"]
