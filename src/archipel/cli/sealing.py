"""What lasts is encrypted from its first start: the key that `up` and `join` make where none is named.

A local fleet of `archipel run` stays plain unless ARCHIPEL_KEY names a key: the rows that its sites train on lie beside
its blobs, in plain.
"""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from archipel.cli.processes import FLEET

KEY = "ARCHIPEL_KEY"


def seal_from_the_start(folder: Path, key: str | None, console: Console) -> None:
    """Make the data key of `folder`, and a key file for it, unless it has one, or `key` or the environment names one.

    Raises:
        TrustError: the key file cannot be used.
    """
    from archipel.security.sealing import KEYRING, key_url, open_sealing

    is_decided = key is not None or os.environ.get(KEY) or FLEET in os.environ
    if is_decided or (folder / KEYRING).exists():
        return
    url = key_url(folder, os.environ)
    folder.mkdir(parents=True, exist_ok=True)
    open_sealing(folder, url)
    said = f"blobs in {folder} are encrypted under {url}: back it up, apart from the folder; without it they are lost"
    console.print(f"{said} (--key none encrypts nothing)", highlight=False, markup=False, soft_wrap=True)
