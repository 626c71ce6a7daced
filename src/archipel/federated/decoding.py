"""A compressed update as the vector it stands for, decoded as it is read: one block of columns at a time.

What a site sent may be anything. A file laid out otherwise than its codec does is refused before a value is read, and
what a block finds wrong is raised in the site's name, so that the round goes on without it.
"""

from __future__ import annotations

from archipel.data.compression.port import Codec, size_of
from archipel.federated.blocks import OpenedTensors, working_dtype
from archipel.federated.contribution import NonFiniteUpdateError, ShapeUpdateError
from archipel.federated.port import Block
from archipel.spec import Manifest, NonFiniteError, ShapeError

DELTA = "delta"
"""The part that is compressed: the only one there is, as `clashes` sees to."""


class DecodedBlocks:
    """A BlockReader of one site's compressed update."""

    def __init__(self, site: str, codec: Codec, file: OpenedTensors, model: Manifest) -> None:
        """Read what `codec` wrote of an update laid out like `model`.

        Raises:
            ShapeUpdateError: the file is laid out otherwise; names the site.
        """
        if file.manifest != codec.layout(model):
            raise ShapeUpdateError(
                site,
                f"the update of {site} is no {codec.name} of the model",
                hint="the site must run the same archipel version, and its task build the same model as the others'",
            )
        self._site = site
        self._codec = codec
        self._file = file
        self._model = model
        self.count = size_of(model)
        self.dtype = working_dtype(model.uniform_dtype())

    def read(self, name: str, start: int, stop: int, scratch: Block) -> Block:
        """Decode columns start..stop into `scratch`.

        Raises:
            ShapeUpdateError, NonFiniteUpdateError: they are nothing the codec writes; names the site.
        """
        assert name == DELTA
        values = scratch[: stop - start]
        try:
            self._codec.decode(self._file.take, self._model, start, values)
        except NonFiniteError as error:
            raise NonFiniteUpdateError(self._site, self._said(error), hint=error.hint) from error
        except ShapeError as error:
            raise ShapeUpdateError(self._site, self._said(error), hint=error.hint) from error
        return values

    def _said(self, error: ShapeError | NonFiniteError) -> str:
        return f"the {self._codec.name} update of {self._site}: {error.message}"
