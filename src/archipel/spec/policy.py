"""SitePolicy: what a site's owner lets run there, in one TOML file in the site's own folder.

    approve = "once"
    secure_aggregation = true
    least_sites = 5

    [work]        which jobs, code and data sets
    [epsilon]     the most that differential privacy may cost; then it is required
    [helpers]     who may help with secure sums
    [peers]       whose keys are believed under secure aggregation
    [hours]       when work begins
    [sandbox]     what task code may see
    [limits]      how much of the machine

The site's agent reads and obeys it; control never sees it, and cannot change it. With an empty file every job
may run that may without one; each run is then held to what it was begun with. Unknown keys are refused with the nearest
valid name. `read_policy` is the one way in.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, field

from archipel.spec.canonical import Digest, Name, Value
from archipel.spec.errors import SpecError
from archipel.spec.keys import misfit, refuse_non_finite, refuse_unknown
from archipel.spec.privacy import Delta
from archipel.spec.privacy import Positive as Epsilon
from archipel.spec.quantities import Size, read_quantity

FILE = "policy.toml"
"""Its name in the site's folder."""
Positive = Annotated[int, Meta(ge=1)]
HelperPin = Annotated[
    str, Meta(pattern=r"^(certified|sha256:[0-9a-f]{64})$(?!\n)", description="certified, or a digest")
]
Clock = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)", description="HH:MM")]


class WorkRules(Value, frozen=True, kw_only=True):
    """[work]: what the site takes part in. Each list that is not empty must name what is asked."""

    datasets: tuple[Name, ...] = ()
    """Data sets that jobs may use here; empty: every one the site holds."""
    names: tuple[Name, ...] = ()
    """Names of jobs. A name is what control says it is: pin digests where that is not enough."""
    jobs: tuple[Digest, ...] = ()
    """Digests of jobs: every setting of theirs is fixed."""
    bundles: tuple[Digest, ...] = ()
    """Digests of bundles: every line of their code is fixed."""
    signers: tuple[Digest, ...] = ()
    """Digests of keys, one of which must have signed the job and its code; `archipel sign` prints its key's."""


class EpsilonRules(Value, frozen=True, kw_only=True):
    """[epsilon]: a run must have differential privacy, and may cost so much."""

    run: Epsilon
    """Most that all rounds of one run may cost."""
    dataset: Epsilon | None = None
    """Most that all runs on a data set may cost together, by this site's ledger; None: what the ledger has a budget
    for, if it has one."""
    delta: Delta = 1e-5
    """At which both are computed, whatever delta the job tells its own at."""
    unit: Literal["example", "site"] = "example"
    """Whose presence is hidden: a training row's, or the whole site's."""


class Hours(Value, frozen=True, kw_only=True):
    """[hours]: when work may begin, each day. What has begun is finished."""

    begin: Clock
    end: Clock
    """Not after `begin`: of the next day."""
    zone: str = "local"
    """"local": the machine's; else a name such as "UTC" or "Europe/Vienna"."""

    def is_open(self, now: dt.datetime) -> bool:
        """Is it time to work? `now` is of any time zone.

        >>> night = Hours(begin="22:00", end="06:00", zone="UTC")
        >>> [night.is_open(dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC)) for hour in (21, 22, 5, 6)]
        [False, True, True, False]
        """
        at = now.astimezone(_zone(self.zone)).strftime("%H:%M")
        if self.begin < self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end


class Limits(Value, frozen=True, kw_only=True):
    """[limits]: how much of the machine a run may use. None: as much as there is."""

    cores: Positive | None = None
    """Processor cores that its worker may use."""
    memory: Size | None = None
    """Memory of its worker, of all processes together where there are control groups, else of each; a job that says it
    needs more is refused. None: three quarters of the machine's, or of the container's."""
    disk: Size | None = None
    """Largest file its worker may write, and so its largest result; a task that brings more is refused. None: 8 GB.
    Never more than a quarter of the free disk, or 64 MB."""
    tmp: Size | None = None
    """Room in its /tmp and its /dev/shm, each; it is memory, as far as it is used. None: 2 GB."""
    processes: Positive = 512
    """Its processes and threads, all together."""
    open_files: Positive = 1024
    network: Size | None = None
    """What one task may bring to the site, by the sizes it names."""
    model: Size | None = None
    """Weights of a model that the site is given to work on."""


class SandboxRules(Value, frozen=True, kw_only=True):
    """[sandbox]: the walls around task code."""

    require: Literal["full", "available", "none"] = "available"
    """"full": no work without every wall; "available": with those there are; "none": without any."""
    caches: tuple[str, ...] = ()
    """Folders that every task may read, such as one of pretrained models."""
    gpu: bool = True
    """Show NVIDIA devices to jobs that do not ask for the CPU."""


class SitePolicy(Value, frozen=True, kw_only=True, tag_field="type", tag="policy/1"):
    """A site's rules. The defaults allow what was always allowed."""

    approve: Literal["always", "once", "never"] = "always"
    """"once": a person at the site approves each new pair of job and bundle; "always": what the other rules allow
    runs; "never": nothing does."""
    secure_aggregation: bool = False
    """True: only jobs in which control learns sums over sites."""
    least_sites: Positive = 1
    """Fewest sites in a round. Under secure aggregation the site sees to it; else it is what the job promises."""
    work: WorkRules = field(default_factory=WorkRules)
    epsilon: EpsilonRules | None = None
    """None: noise is not asked for."""
    peers: dict[Name, Digest] = field(default_factory=dict)
    """Site → digest of its public key, known from elsewhere than from control: secure sums are with these sites and
    these keys alone. Empty: with every site that control's authority certifies."""
    helpers: dict[Name, HelperPin] = field(default_factory=dict)
    """Site that may help with "two-server" sums → "certified", or the digest of its public key, known from elsewhere
    than from control. Empty: any, unless `secure_aggregation` or `peers` ask for sums that nobody helps with."""
    hours: Hours | None = None
    """None: at any time."""
    sandbox: SandboxRules = field(default_factory=SandboxRules)
    limits: Limits = field(default_factory=Limits)


def read_policy(data: bytes, where: str) -> SitePolicy:
    """Read and check the bytes of a policy's file; `where` names it in errors.

    Raises:
        SpecError: it is not TOML, or a value has the wrong type.
        UnknownNameError: a key does not exist; the hint names the nearest one.
    """
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{where} is not valid TOML: {error}", hint="mend the line it names") from error
    refuse_non_finite(document, where)
    refuse_unknown(document, SitePolicy, where)
    try:
        policy = msgspec.convert({"type": "policy/1", **document}, SitePolicy, dec_hook=read_quantity)
    except msgspec.ValidationError as error:
        raise misfit(where, error, "archipel schema --policy") from error
    if policy.hours is not None:
        _zone(policy.hours.zone, f"{where} [hours]: ")
    return policy


def _zone(name: str, where: str = "") -> dt.tzinfo | None:
    """Return a time zone; None stands for the machine's own."""
    if name == "local":
        return None
    if name == "UTC":
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        hint = '"local", "UTC", or a name such as "Europe/Vienna" that this machine knows'
        raise SpecError(f"{where}unknown time zone {name!r}", hint=hint) from error
