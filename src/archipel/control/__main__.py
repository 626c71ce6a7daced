"""`python -m archipel.control`: serve a control plane in the foreground.

Secrets are not given as arguments, where other processes can read them: the database's URL and the artefact store's
options may come from the environment (ARCHIPEL_DATABASE, ARCHIPEL_ARTEFACTS, ARCHIPEL_ARTEFACT_OPTIONS as JSON).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from archipel.control.app import run
from archipel.control.logs import log_plainly
from archipel.control.settings import Settings
from archipel.spec import ArchipelError, decode


def main(words: list[str] | None = None) -> int:
    """Read the arguments and serve; return the exit code."""
    log_plainly(sys.stdout)
    try:
        run(_settings(_parser().parse_args(words)))
    except ArchipelError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"next:  {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m archipel.control", description="Serve a control plane.")
    parser.add_argument("--state", type=Path, required=True, help="folder of everything it keeps")
    parser.add_argument("--database", help="PostgreSQL URL; default: SQLite in the state folder")
    parser.add_argument("--artefacts", help="URL of the artefact store; default: a folder in the state folder")
    parser.add_argument("--key", help="URL of the key that everything is encrypted under")
    parser.add_argument("--oidc", type=Path, help="file that names an OIDC issuer whose people may log in")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--http-port", type=int, help="REST over HTTPS (default 7400; 0: any)")
    parser.add_argument("--sites-port", type=int, help="gRPC for sites (default 7401; 0: any)")
    parser.add_argument("--name", action="append", dest="names", help="host name in the certificate; repeatable")
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    chosen = {
        "database": given.database or os.environ.get("ARCHIPEL_DATABASE"),
        "artefacts": given.artefacts or os.environ.get("ARCHIPEL_ARTEFACTS"),
        "key": given.key or os.environ.get("ARCHIPEL_KEY") or None,
        "oidc": given.oidc,
        "host": given.host,
        "http_port": given.http_port,
        "sites_port": given.sites_port,
        "names": tuple(given.names) if given.names else None,
    }
    options = os.environ.get("ARCHIPEL_ARTEFACT_OPTIONS")
    if options:
        chosen["artefact_options"] = decode(options.encode(), dict[str, str])
    return Settings(state=given.state, **{name: value for name, value in chosen.items() if value is not None})


if __name__ == "__main__":
    sys.exit(main())
