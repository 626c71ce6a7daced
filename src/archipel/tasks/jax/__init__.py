"""The adapter for JAX: pure functions of a pytree of parameters, and the compiled steps that train it."""

from archipel.tasks.jax.task import Batch, JaxTask, Parameters
from archipel.tasks.labels import encode_labels
from archipel.tasks.port import Samples, Split, Sums
from archipel.tasks.scaling import feature_sums, scaling

__all__ = ["Batch", "JaxTask", "Parameters", "Samples", "Split", "Sums", "encode_labels", "feature_sums", "scaling"]
