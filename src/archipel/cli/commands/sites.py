"""`archipel invite`, `archipel join` and `archipel revoke`: how a site becomes part of a fleet, and is cut off."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from archipel.cli import processes
from archipel.cli.planes import HOME, Control, Json, OperatorFile, State, connect
from archipel.cli.sealing import seal_from_the_start
from archipel.spec import DataError, SpecError, StateError, encode


def invite(
    site: Annotated[str, Parameter(help="Name of the site, such as hospital-a.")],
    /,
    *,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Make a single-use token with which SITE joins.

    Give it to whoever operates the site, over a channel you trust: it holds the control plane's address, the
    fingerprint of its CA and a secret that works once, for an hour. On a command line it would stay in the shell's
    history, and everybody on that machine could read it; `archipel join -` reads it from the standard input.
    """
    with connect(state, control, operator) as client:
        invitation = client.invite(site)
    if as_json:
        print(encode(invitation).decode())
        return
    console = Console(stderr=True)
    way_on = "on the machine that holds its data, give it to the standard input of"
    said = f"token for {site}; {way_on}: archipel join - --data NAME=PATH"
    console.print(said, highlight=False, soft_wrap=True)
    print(invitation.token)


def revoke(
    site: Annotated[str, Parameter(help="Name of the site to cut off.")],
    /,
    *,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Cut SITE off at once: its certificates and tokens no longer hold, and its connection ends.

    To let it back, make a new token with `archipel invite`; it joins again in its own folder.
    """
    with connect(state, control, operator) as client:
        view = client.revoke(site)
    if as_json:
        print(encode(view).decode())
        return
    said = f"{site} is cut off; `archipel invite {site}` makes a token that lets it back"
    Console(stderr=True).print(said, highlight=False, soft_wrap=True)


def join(
    token: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help='What `archipel invite` printed; "-" reads it from stdin.'),
    ] = None,
    /,
    *,
    data: Annotated[
        tuple[str, ...],
        Parameter(
            name="--data",
            negative="",
            show_default=False,
            help="NAME=PATH of a data set the site holds; may be given again.",
        ),
    ] = (),
    folder: Annotated[Path | None, Parameter(help="The site's own folder: key, certificate, journal.")] = None,
    key: Annotated[
        str | None, Parameter(help="URL of the key that its spool is encrypted under; a new key file, if not given.")
    ] = None,
    detach: Annotated[bool, Parameter(negative="", show_default=False, help="Serve in the background.")] = False,
) -> None:
    """Join a control plane as a site (unless that is done) and serve it.

    The key is made here and never leaves; the site only dials out. Without a token, a site that has joined before
    serves again from its folder, with data sets where --data says that they are now.
    """
    from archipel.site.agent.folder import SiteFolder

    words = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105 - a dash is no secret
    datasets = dict(_dataset(item) for item in data)
    place = folder if folder is not None else _folder_of(words)
    if words is not None:
        from archipel.site.agent.join import join as join_site

        join_site(words, place, datasets, now=time.time())
    elif datasets:
        from archipel.site.agent.join import register

        register(place, datasets)
    site = SiteFolder(place)
    if site.identity() is not None and not site.is_held():
        seal_from_the_start(place, key, Console(stderr=True))
    role, serve = f"site/{place.resolve().name}", ["-m", "archipel.site", "--folder", str(place)]
    serve += ["--key", key] if key is not None else []
    if detach:
        _detach(place, role, serve)
        said = f"serving in the background, with its output in {place / 'logs'}"
        Console().print(
            f"{said}; `archipel stop --folder {place}` ends it", highlight=False, markup=False, soft_wrap=True
        )
        return
    # The agent takes this process over, so that what joining needed leaves memory.
    # One that a fleet has started keeps the fleet's mark.
    environment = {**processes.marked(place, role), **os.environ}
    os.execve(sys.executable, [*processes.PYTHON, *serve], environment)  # noqa: S606


def _detach(place: Path, role: str, serve: list[str]) -> None:
    from archipel.cli.fleet import Fleet
    from archipel.site.agent.folder import SiteFolder, require_valid

    folder = SiteFolder(place)
    require_valid(folder.require_identity(), time.time())
    if folder.is_held():
        raise StateError(
            f"an agent serves from {place} already",
            hint=f"`archipel stop --folder {place}` ends it; then run this again",
        )
    Fleet(place).start_alone(role, serve, folder.is_held)


def _folder_of(token: str | None) -> Path:
    if token is None:
        raise SpecError("which site?", hint="give the token of `archipel invite`, or --folder of a site that joined")
    from archipel.security.tokens import read_token

    return HOME / "sites" / read_token(token).site


def _dataset(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise SpecError(f"--data {text!r} is not NAME=PATH", hint="such as --data penguins=/srv/penguins")
    place = Path(path).resolve()
    if not place.exists():
        raise DataError(f"no data at {place}", hint=f"mend the path of --data {name}=…")
    return name, place
