"""`archipel`: the table of commands, and what happens when one of them fails.

Rules: nothing heavy is imported to print help (commands are named as strings and imported when called); every failure
on purpose prints `error:` and `next:` to stderr and exits with the code of its class in spec.errors; Ctrl-C exits
with 130, and SIGTERM with 143, after saying how to go on. ARCHIPEL_DEBUG=1 shows tracebacks.

    archipel run examples/islands/job.toml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from archipel.cli.interrupts import Interrupts

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("up", "plane:up", "Start a control plane here."),
    ("user", "people:user", "Make, list, change and remove the accounts of people."),
    ("login", "people:login", "Log in to a control plane with an account of your own."),
    ("logout", "people:logout", "End that log-in."),
    ("invite", "sites:invite", "Make a single-use token with which a site joins."),
    ("join", "sites:join", "Join a control plane as a site and serve it, from the machine that holds the data."),
    ("ledger", "privacy:ledger", "Show what runs have cost a site's data sets, or set a budget."),
    ("policy", "policy:policy", "Show a site's policy, approve or refuse jobs there, and see what it refused."),
    ("rekey", "sealing:rekey", "Wrap what is encrypted at rest under another key."),
    ("revoke", "sites:revoke", "Cut a site off at once; it needs a new token to come back."),
    ("devices", "devices:devices", "Show what computes here or at a site, measured, and how fast."),
    ("plan", "jobs:plan", "Show who would take part in a job, and what it would move and take."),
    ("sign", "jobs:sign", "Sign a job and its code, for sites that trust your key."),
    ("run", "jobs:run", "Run a job over its sites; over local sites where it names no control plane."),
    ("simulate", "jobs:simulate", "Run a job with all sites in this process; the same bytes come out."),
    ("compare", "jobs:compare", "Show simulations of the same data side by side."),
    ("search", "jobs:search", "Look for the best values of a job's keys, by many simulations."),
    ("status", "reading:status", "Show the control plane's sites and runs."),
    ("logs", "reading:logs", "Show what happened, as control and sites said it."),
    ("audit", "auditing:audit", "Verify, prove and export the audit log."),
    ("models", "models:models", "Show registered models and where they came from."),
    ("predict", "models:predict", "Ask the model that a site serves."),
    ("resume", "jobs:resume", "Go on with an interrupted, stopped or failed run."),
    ("stop", "plane:stop", "Stop a run, or all processes of the local fleet."),
    ("schema", "about:schema", "Print the JSON Schema of job files, for editors."),
    ("version", "about:version", "Print the version."),
)
"""Name, where it is, what it is for."""


def build_app(chosen: str | None = None) -> App:
    """Return the command line, with nothing heavy imported; the `chosen` command is described by its own docstring."""
    app = App(
        name="archipel",
        help="AI infrastructure for data that may not move.",
        version_flags=["--version"],
        version=_version,
        help_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, where, purpose in COMMANDS:
        place = f"archipel.cli.commands.{where}"
        app.command(place, name=name) if name == chosen else app.command(place, name=name, help=purpose)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` (the process's own, if None) name, and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with Interrupts() as interrupts:
        try:
            build_app(words[0] if words else None)(
                words, exit_on_error=False, print_error=False, result_action="return_value"
            )
        except KeyboardInterrupt as error:
            with interrupts.held():  # a second signal has nothing left to interrupt
                from archipel.cli.failure import say_interrupted

                say_interrupted(error)
                sys.exit(interrupts.exit_code)
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output went away (`archipel logs | head`): nothing is wrong
            sys.exit(0)
        except CycloptsError as error:
            from archipel.cli.failure import say_usage

            sys.exit(say_usage(error, words, [name for name, _, _ in COMMANDS]))
        except Exception as error:  # noqa: BLE001 - the last rim: every failure becomes a message and an exit code
            from archipel.cli.failure import say_failure

            sys.exit(say_failure(error))


def _version() -> str:
    from archipel import __version__

    return __version__


if __name__ == "__main__":
    main()
