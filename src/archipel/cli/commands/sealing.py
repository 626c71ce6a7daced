"""`archipel rekey`: another key for what is encrypted at rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console


def rekey(
    folder: Annotated[Path, Parameter(help="State folder of a control plane, or the folder of a site.")],
    /,
    *,
    key: Annotated[
        str | None, Parameter(help="URL of the new key: file:PATH or command:PROGRAM; a new file, if not given.")
    ] = None,
) -> None:
    """Wrap the data key of FOLDER under a new key; the data stay as they are.

    Also while its process runs: that asks for the key when it starts. The old key opens copies of the keyring that
    were made before, so destroy it, or them, once nobody needs those.
    """
    from archipel.security.sealing import rekey as wrap_anew

    new = wrap_anew(folder, key)
    said = f"{folder} opens with {new} from now on; the old key opens only older copies of its keyring"
    Console().print(said, highlight=False, markup=False, soft_wrap=True)
