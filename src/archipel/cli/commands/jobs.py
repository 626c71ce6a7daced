"""`archipel plan`, `run`, `simulate` and `resume`: jobs, from what they would take to what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from archipel.cli.client import Client
from archipel.cli.planes import CURRENT, HOME, Control, Json, OperatorFile, State, connect, find_state, operator_of
from archipel.cli.watching import ENDED, watch
from archipel.spec import JobSpec, SpecError, StateError, encode, read_job
from archipel.spec.views import RunView

MOST_PAST = 20
"""Runs that `plan --history` shows."""
JobFile = Annotated[Path, Parameter(help="Path of a job.toml.")]
Presets = Annotated[
    tuple[str, ...],
    Parameter(
        name="--preset", negative="", show_default=False, help="Lay [preset.NAME] over the rest; may be given again."
    ),
]
Data = Annotated[
    Path | None, Parameter(name="--data", help="Folder the job's `prepare` reads, or one folder per site.")
]
Curves = Annotated[Path | None, Parameter(help="Draw loss and figures by round into FILE.png (or .svg, .pdf).")]
TensorBoard = Annotated[Path | None, Parameter(help="Write event files of TensorBoard into this folder.")]
MlFlow = Annotated[
    str | None, Parameter(name="--mlflow", help="Log to MLflow: sqlite:///FILE.db, or a tracking server's address.")
]
Executor = Annotated[
    str | None,
    Parameter(help="How virtual clients are computed: auto, loop, stacked or compiled; else as the job says."),
]
Spread = Annotated[
    str | None,
    Parameter(
        help="Where virtual clients are computed: inline (the default), processes (one a core), processes:N, ray or "
        "ray://HOST:PORT (a Ray cluster)."
    ),
]
WhatIf = Annotated[
    str | None,
    Parameter(
        name="--what-if",
        help="A fleet file, of sites that need not exist: FLEET.toml or FLEET.toml:PRESET; now: the sites there are.",
    ),
]
Detach = Annotated[bool, Parameter(negative="", show_default=False, help="Return once the run has started.")]


def plan(
    job: Annotated[Path | None, Parameter(help="Path of a job.toml; may be left out with --what-if.")] = None,
    /,
    *,
    preset: Presets = (),
    what_if: WhatIf = None,
    objective: Annotated[str, Parameter(help="With --what-if, what to make small: time, cost or energy.")] = "time",
    deadline: Annotated[str | None, Parameter(help='With --what-if, such as "2 h".')] = None,
    budget: Annotated[str | None, Parameter(help='With --what-if, such as "10 EUR".')] = None,
    share: Annotated[
        str | None, Parameter(help="With --what-if, let work take turns, for: weighted-completion or makespan.")
    ] = None,
    history: Annotated[bool, Parameter(negative="", help="What past plans forecast, and what came.")] = False,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Show who would take part in JOB, and what it would move and take; nothing is started.

    With --what-if, over the sites of a fleet file instead of those of a control plane, with what that fleet could do.
    """
    from archipel.cli.planning import show_history, show_plan

    if what_if is not None:
        from archipel.cli.foreseeing import foresee, foresee_timetable, open_fleet, wishes_from

        wanted = None if job is None else read_job(job, preset)
        fleet = open_fleet(what_if, lambda: connect(state, control, operator))
        if share is not None:
            if wanted is not None or deadline is not None or budget is not None or objective != "time":
                raise SpecError(
                    "--share goes without JOB, --deadline, --budget and --objective", hint="omit them, or omit --share"
                )
            foresee_timetable(fleet, share, Console(), as_json=as_json)
            return
        foresee(fleet, wanted, wishes_from(objective, deadline, budget), Console(), as_json=as_json)
        return
    if share is not None or deadline is not None or budget is not None or objective != "time":
        raise SpecError(
            "--share, --deadline, --budget and --objective go with --what-if", hint="name a fleet file, or omit them"
        )
    if job is None:
        raise SpecError("no job to plan", hint="archipel plan JOB, or archipel plan --what-if FLEET")
    planned = read_job(job, preset)
    with connect(state, address_for(planned, state, control), operator) as client:
        if history:
            ended = [run.id for run in client.runs() if run.job == planned.name and run.state == "finished"]
            reports = [client.report(run) for run in ended[:MOST_PAST]]
            if as_json:
                print(encode({"runs": [{"run": one.run.id, "grades": one.grades} for one in reports]}).decode())
            else:
                show_history(reports, planned.name, Console())
            return
        found = client.plan(planned)
    if as_json:
        print(encode(found).decode())
        return
    show_plan(found, planned.name, Console())


def run(
    job: JobFile,
    /,
    *,
    data: Data = None,
    preset: Presets = (),
    detach: Detach = False,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
) -> None:
    """Run JOB over its sites, and show how it goes.

    Where neither the job nor an option names a control plane, local sites are started for the run, each a process with
    its own folder and key, under .archipel/NAME here; the same command goes on after an interruption.
    """
    wanted = read_job(job, preset)
    if wanted.control is None and state is None and control is None and operator is None:
        from archipel.cli.local import LocalRun
        from archipel.cli.reporting import finish

        LocalRun(job, preset, data, Console(soft_wrap=False), finish).go(detach=detach)
        return
    with connect(state, address_for(wanted, state, control), operator) as client:
        started = _submit(client, wanted, job.resolve().parent)
        _follow(client, started, detach=detach)


def sign(
    job: JobFile,
    /,
    *,
    key: Annotated[Path, Parameter(help="File of your key, which stays yours (0600); made there if there is none.")],
    preset: Presets = (),
) -> None:
    """Sign JOB and its code, for sites whose policy trusts your key; it is written beside the job and travels with it.

    What is signed are these settings, presets laid over, and these files: change one, and sign again.
    """
    from archipel.data.signatures import sign_job
    from archipel.security import key_digest, load_or_make_key

    wanted, mine = read_job(job, preset), load_or_make_key(key)
    file = sign_job(job.resolve().parent, wanted, mine)
    console = Console(stderr=True)
    console.print(
        f"signed {wanted.name} in {file}; sites name this key in [work] signers:",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    print(key_digest(mine.public_key()))


def simulate(
    job: JobFile,
    /,
    *,
    data: Data = None,
    preset: Presets = (),
    participation: Annotated[
        Path | None, Parameter(help="JSON of the sites of each training round, to replay a live run.")
    ] = None,
    executor: Executor = None,
    spread: Spread = None,
    curves: Curves = None,
    tensorboard: TensorBoard = None,
    mlflow: MlFlow = None,
    as_json: Json = False,
) -> None:
    """Run JOB on this machine alone, with its sites or, where it has [simulation], virtual clients of one data set."""
    from archipel.cli.curves.exports import Exports
    from archipel.cli.simulating import simulate_job

    console, exports = Console(stderr=as_json), Exports(curves=curves, tensorboard=tensorboard, mlflow=mlflow)
    simulate_job(
        job, preset, data, participation, console, executor=executor, spread=spread, exports=exports, as_json=as_json
    )


def compare(
    *simulations: Annotated[
        str, Parameter(help="JOB.toml, JOB.toml:PRESET, or the result.json (or its folder) of a finished simulation.")
    ],
    data: Data = None,
    executor: Executor = None,
    spread: Spread = None,
    curves: Curves = None,
    tensorboard: TensorBoard = None,
    mlflow: MlFlow = None,
    as_json: Json = False,
) -> None:
    """Show simulations of the same data side by side, and compute those that are not finished."""
    from archipel.cli.comparing import compare_simulations
    from archipel.cli.curves.exports import Exports

    console, exports = Console(stderr=as_json), Exports(curves=curves, tensorboard=tensorboard, mlflow=mlflow)
    compare_simulations(simulations, data, console, executor=executor, spread=spread, exports=exports, as_json=as_json)


def search(
    job: JobFile,
    /,
    *,
    data: Data = None,
    preset: Presets = (),
    workers: Annotated[int, Parameter(help="Processes that make trials at the same time.")] = 1,
    as_json: Json = False,
) -> None:
    """Look for the best values of the keys that [search] of JOB names, by many simulations; goes on where it was."""
    from archipel.cli.searching import search_job

    search_job(job, preset, data, Console(stderr=as_json), workers=workers, as_json=as_json)


def resume(
    run: Annotated[str | None, Parameter(help="The run; the last unfinished one, if not given.")] = None,
    /,
    *,
    detach: Detach = False,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
) -> None:
    """Go on with an interrupted, stopped or failed run; a local fleet is started again first."""
    if control is None and operator is None and _resume_local(find_state(state), run, detach=detach):
        return
    with connect(state, control, operator) as client:
        chosen = client.run(run) if run is not None else _last_unfinished(client)
        _follow(client, client.resume(chosen.id) if chosen.state in ENDED else chosen, detach=detach)


def _resume_local(state: Path, run: str | None, *, detach: bool) -> bool:
    """Go on with the run of a local fleet, if `state` belongs to one and no other run is meant."""
    from archipel.cli.fleet import Fleet
    from archipel.cli.local import LocalRun
    from archipel.cli.reporting import finish

    fleet = Fleet(state.parent)
    kept = fleet.state
    if kept is None or (run is not None and run != kept.run):
        return False
    data = None if kept.data is None else Path(kept.data)
    local = LocalRun(Path(kept.job_file), kept.presets, data, Console(soft_wrap=False), finish, fleet=fleet)
    local.go(detach=detach, only_unfinished=True)
    return True


def address_for(job: JobSpec, state: Path | None, control: str | None) -> str | None:
    """Return the address of the job's control plane; None: the one of the state folder that is meant."""
    if control is not None or state is not None or job.control is None:
        return control
    here = CURRENT.is_file() and operator_of(find_state()).url == job.control
    return None if here else job.control


def _submit(client: Client, job: JobSpec, folder: Path) -> RunView:
    from archipel.data.bundle import pack_bundle

    bundle = client.upload_bundle(pack_bundle(folder, job.task.include))
    return client.start(job, bundle.digest)


def _follow(client: Client, run: RunView, *, detach: bool) -> None:
    from archipel.cli.failure import Interrupted
    from archipel.cli.local import failure_of
    from archipel.cli.reporting import finish_elsewhere

    console = Console()
    if detach:
        console.print(f"run {run.id} goes on in the background: `archipel status`, `archipel logs --follow`")
        return
    try:
        ended = watch(client, run.id, console)
    except KeyboardInterrupt:
        raise Interrupted(
            f"the run goes on at {client.operator.url}; `archipel resume {run.id}` watches it again, "
            f"`archipel stop {run.id}` stops it"
        ) from None
    if ended.run.state != "finished":
        raise failure_of(ended.run)
    finish_elsewhere(client, ended, HOME / "reports" / run.id, console)


def _last_unfinished(client: Client) -> RunView:
    for run in client.runs():
        if run.state != "finished":
            return run
    raise StateError("no unfinished run", hint="`archipel status` shows all runs")
