"""`archipel audit …`: the audit log, checked by whoever does not trust its keeper."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from archipel.cli.planes import Control, Json, OperatorFile, State, connect
from archipel.spec import StateError, decode, encode
from archipel.spec.audit import SignedHead

audit = App(name="audit", help="Verify, prove and export the audit log.")
Sites = Annotated[
    tuple[Path, ...],
    Parameter(name="--site", negative="", show_default=False, help="Folder of a site whose heads count; repeatable."),
]


@audit.command
def verify(
    *,
    site: Sites = (),
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Read all of the log, and hold it against its signed head and the heads that sites kept.

    Without --site only changes are found that were made without the control plane's key; with it, those too.
    """
    from archipel.cli import auditing

    kept = [signed for folder in site for signed in _heads(folder)]
    with connect(state, control, operator) as client:
        verdict = auditing.verify(client, client.operator.ca_pem, kept)
    if as_json:
        print(encode(verdict).decode())
        return
    said = f"{verdict.entries} entries are what their head was signed for, and fit {verdict.heads} heads kept by sites"
    Console().print(f"{said}\nroot {verdict.head.head.root}", highlight=False, soft_wrap=True)


@audit.command
def prove(
    event: Annotated[int, Parameter(help="Number of the entry, as `archipel audit export` numbers lines from 1.")],
    /,
    *,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Get the proof that an entry is in the log, and check it here."""
    from archipel.cli import auditing

    with connect(state, control, operator) as client:
        proof = client.proof(event)
        auditing.require_included(proof, client.operator.ca_pem)
    if as_json:
        print(encode(proof).decode())
        return
    head = proof.head.head
    said = f"entry {event} ({proof.event.what}, {proof.event.actor}) is in the log of {head.size} entries"
    Console().print(f"{said}: {len(proof.path)} hashes lead to root {head.root}", highlight=False, soft_wrap=True)


@audit.command
def export(*, state: State = None, control: Control = None, operator: OperatorFile = None) -> None:
    """Print the log for `verify_export.py`: its signed head in the first line, then an entry a line."""
    from archipel.cli import auditing

    with connect(state, control, operator) as client:
        signed = client.head()
        for line in (encode(signed), *auditing.leaves(client, signed.head.size)):
            sys.stdout.write(line.decode() + "\n")


@audit.command
def heads(folder: Annotated[Path, Parameter(help="Folder of the site.")], /) -> None:
    """Print the signed heads a site kept, one a line, the newest last."""
    for signed in _heads(folder):
        print(encode(signed).decode())


@audit.command
def log(folder: Annotated[Path, Parameter(help="Folder of the site.")], /) -> None:
    """Print the site's own audit log, one entry a line; an error if it was changed."""
    from archipel.site.journal import Journal

    for event in Journal(_journal(folder)).logged():
        print(encode(event).decode())


@audit.command
def accept(folder: Annotated[Path, Parameter(help="Folder of the site.")], /) -> None:
    """Let a site believe a log that begins anew, as after a restored backup; both heads stay in the site's own log."""
    from archipel.site.agent.folder import SiteFolder
    from archipel.site.agent.witness import accept_anew
    from archipel.site.journal import Journal

    journal, identity = Journal(_journal(folder)), SiteFolder(folder).require_identity()
    ca = identity.certificate.ca_pem
    event = accept_anew(journal, identity.site, ca, by=getpass.getuser(), now=time.time())
    kept, offered = (decode(str(event.detail[name]).encode(), SignedHead).head for name in ("kept", "offered"))
    said = f"accepted: a log of {offered.size} entries, where {identity.site} had witnessed {kept.size}"
    Console().print(f"{said}\nboth signed heads are in `archipel audit log {folder}`", highlight=False, soft_wrap=True)


def _heads(folder: Path) -> tuple[SignedHead, ...]:
    from archipel.site.journal import Journal

    return Journal(_journal(folder)).heads()


def _journal(folder: Path) -> Path:
    path = folder / "journal.db"
    if not path.is_file():
        raise StateError(f"no site has joined in {folder}", hint="name the folder that `archipel join` made")
    return path
