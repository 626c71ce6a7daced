"""`archipel policy …`: what a site lets run, what waits for its people's word, and what it refused.

All of it is read from and written to the site's own folder, by whoever may: there is no other way to approve. `serve`
opens the same portal to programs of the site's own, on loopback.
"""

from __future__ import annotations

import datetime as dt
import getpass
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter
from rich.console import Console

from archipel.cli.planes import Json
from archipel.site.approvals import Approval, Decision
from archipel.spec import Event, JobSpec, StateError, encode

if TYPE_CHECKING:
    from archipel.site.owner.portal import Portal

policy = App(name="policy", help="Show and check a site's policy, approve or refuse jobs, and see what was refused.")
Folder = Annotated[Path, Parameter(help="The site's own folder, as `archipel join --folder` was given it.")]
Id = Annotated[str, Parameter(help="What `archipel policy approvals` calls it.")]


@policy.command
def check(folder: Folder, /, *, as_json: Json = False) -> None:
    """Read the policy of the site in FOLDER as its agent would, and print every rule of it."""
    from archipel.spec import digest_of
    from archipel.spec.policy import FILE, read_policy

    file = folder / FILE
    if not file.exists():
        hint = "write one; `archipel schema --policy` lets editors complete it"
        raise StateError(f"there is no {file}: what control asks is done", hint=hint)
    data = file.read_bytes()
    read = msgspec.to_builtins(read_policy(data, str(file)), enc_hook=str)
    if as_json:
        print(encode({"digest": digest_of(data), "policy": read}).decode())
        return
    _say(f"{file} is valid: {digest_of(data)}", *_flat(read))


@policy.command
def approvals(
    folder: Folder,
    id_: Annotated[str | None, Parameter(name="ID", help="Only this one, with every setting of its job.")] = None,
    /,
    *,
    code: Annotated[Path | None, Parameter(help="With ID: unpack the bundle there, to read it; it is not run.")] = None,
    as_json: Json = False,
) -> None:
    """List the jobs that the site in FOLDER was asked to take part in: waiting, approved, refused."""
    with _portal(folder) as portal:
        found = portal.approvals() if id_ is None else (portal.approval(id_),)
    if id_ is not None and code is not None:
        _unpack(folder, found[0], code)
    if as_json:
        print(encode({"approvals": found}).decode())
    elif id_ is not None:
        _say(*_headlines(found[0]), *_flat(msgspec.to_builtins(found[0].job)))
    elif not found:
        _say('no job was ever put before people here (approve = "once" in policy.toml does that)')
    else:
        _say(*(line for one in found for line in _headlines(one)))


@policy.command
def approve(folder: Folder, id_: Id, /) -> None:
    """Let a job run at the site in FOLDER, with exactly these settings and this code, now and whenever it is asked."""
    _decide(folder, id_, "approved")


@policy.command
def refuse(folder: Folder, id_: Id, /) -> None:
    """Refuse a job at the site in FOLDER; one that was approved does no more work from now on."""
    _decide(folder, id_, "refused")


@policy.command
def refusals(folder: Folder, /, *, as_json: Json = False) -> None:
    """Show what the site in FOLDER refused, and why, from its own log; an error if that was changed."""
    with _portal(folder) as portal:
        found = portal.refusals()
    if as_json:
        print(encode({"refusals": found}).decode())
    else:
        _say(*map(_refusal, found) if found else ("nothing was refused",))


@policy.command
def serve(
    folder: Folder,
    /,
    *,
    port: Annotated[int, Parameter(help="0: a free one, which is printed.")] = 0,
) -> None:
    """Answer on this machine for approvals and refusals of the site in FOLDER, until it is stopped (Ctrl-C)."""
    import secrets

    from archipel.security import write_secret
    from archipel.site.owner.server import serve_portal

    token, place = secrets.token_urlsafe(32), folder / "owner.token"

    def said(url: str) -> None:
        write_secret(place, token.encode())
        _say(f"{url}/v1/approvals; the token is in {place}")

    with _portal(folder):
        pass
    serve_portal(lambda: _portal(folder), token=token, by=getpass.getuser(), port=port, said=said)


@policy.command
def key(folder: Folder, /, *, as_json: Json = False) -> None:
    """Print the line by which other sites' [peers] know the key of the site in FOLDER; hand it on past control."""
    from archipel.security import key_digest, load_or_make_key
    from archipel.site.agent.folder import SiteFolder, require_key

    place = SiteFolder(folder)
    site = place.require_identity().site
    require_key(place)
    digest = key_digest(load_or_make_key(place.key).public_key())
    print(encode({"site": site, "key": digest}).decode() if as_json else f'{site} = "{digest}"')


def _decide(folder: Path, id_: str, decision: Decision) -> None:
    with _portal(folder) as portal:
        decided = portal.decide(id_, decision, by=getpass.getuser())
    goes_on = "runs that wait go on by themselves" if decision == "approved" else "its runs do no more work here"
    _say(f"{decision}: {decided.job.name} ({decided.name}); {goes_on}")


def _portal(folder: Path) -> AbstractContextManager[Portal]:
    from archipel.site.owner.portal import open_portal

    return open_portal(folder, time.time)


def _unpack(folder: Path, asked: Approval, target: Path) -> None:
    from archipel.data.bundle import open_bundle
    from archipel.data.stores.spool import Spool
    from archipel.security.sealing import open_sealing
    from archipel.site.agent.folder import SiteFolder

    spool = Spool(SiteFolder(folder).spool, open_sealing(folder, None))
    if not spool.has(asked.bundle.digest):
        raise StateError("the bundle is not here any more", hint="it is, as long as a run of the job waits")
    open_bundle(bytes(spool.view(asked.bundle.digest)), target)


def _headlines(asked: Approval) -> tuple[str, ...]:
    job = asked.job
    by = f" by {asked.decided_by} at {_when(asked.decided_at)}" if asked.decided_at is not None else ""
    privacy = [
        _secrecy(job),
        *(["noise from the coordinator"] if job.privacy.central else []),
        *(["noise from the site"] if job.privacy.is_noisy_at_sites else []),
    ]
    size = f"{job.federation.rounds} rounds over at least {job.federation.min_sites} sites"
    return (
        f"{asked.name}  {asked.state}{by}: {job.name} on {job.data.dataset}, {size}; {', '.join(privacy)}",
        f"              job {job.digest}",
        f"              bundle {asked.bundle.digest}, {asked.bundle.size_bytes} bytes",
        f"              first asked by run {asked.run} at {_when(asked.asked_at)}",
    )


def _secrecy(job: JobSpec) -> str:
    if job.privacy.helper is not None:
        return f"secure aggregation with the helper {job.privacy.helper}"
    return "control sees this site's updates" if job.privacy.secure_aggregation == "none" else "secure aggregation"


def _refusal(event: Event) -> str:
    detail = event.detail
    what = f"{detail.get('kind')} of run {event.run}"
    return f"{_when(event.at)}  {what}: {detail.get('error')}: {detail.get('message')} (job {detail.get('job')})"


def _flat(value: Any, name: str = "") -> Iterator[str]:
    """Yield a line for each value of a document, by its dotted key."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name != "type":
        yield f"  {name} = {encode(value).decode()}"


def _when(at: float | None) -> str:
    return dt.datetime.fromtimestamp(at or 0.0, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _say(*lines: str) -> None:
    console = Console()
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
