"""JobSpec: everything a user says about a job, in one TOML file.

    name = "penguins"

    [task]        code, framework and options of the task
    [data]        which data set, what it must look like, how local sites get theirs
    [federation]  algorithm, rounds, cohort, local training
    [evaluation]  what the report compares
    [privacy]     what may be disclosed
    [resources]   what a site must have
    [deployment]  what is served afterwards
    [simulation]  a population of virtual clients, for `archipel simulate`
    [search]      which of these values `archipel search` looks for

Unknown keys are refused with the nearest valid name. `read_job` is the one way in.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from archipel.spec.canonical import Name, Value, digest_value
from archipel.spec.compression import CompressionSpec
from archipel.spec.errors import SpecError, UnknownNameError
from archipel.spec.keys import overlay, refuse_non_finite, refuse_unknown
from archipel.spec.privacy import CentralPrivacy, DistributedPrivacy, ExamplePrivacy, LocalPrivacy
from archipel.spec.timing import TimeSpec

Positive = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Rate = Annotated[float, Meta(gt=0)]
Entry = Annotated[str, Meta(pattern=r"^[\w./-]+\.py:\w+$(?!\n)", description="file.py:Name, relative to the job file")]
Scalar = bool | int | float | str


class TaskSpec(Value, frozen=True, kw_only=True):
    """[task]: the code that trains. The folder of the job file is the bundle that travels to the sites."""

    code: Entry
    """Where the task class is, such as "task.py:Penguins"."""
    framework: Literal["numpy", "torch", "jax"] = "numpy"
    options: dict[str, Scalar | list[Scalar]] = field(default_factory=dict)
    """Passed to the task's constructor as keyword arguments."""
    include: tuple[str, ...] = ("*.py",)
    """Glob patterns, relative to the job file, of the files that make up the bundle."""


class Column(Value, frozen=True, kw_only=True):
    """One column the job needs."""

    kind: Literal["number", "integer", "category", "text"]
    required: bool = True
    """A row without a value in a required column is quarantined."""
    low: float | None = None
    """Smallest valid number; None: no bound."""
    high: float | None = None
    """Largest valid number; None: no bound."""
    values: tuple[str, ...] = ()
    """Valid categories; empty: any of up to 1000 characters."""


class Contract(Value, frozen=True, kw_only=True):
    """[data.contract]: what every site's data set must look like, checked before a round is spent."""

    columns: dict[str, Column] = field(default_factory=dict)
    label: str | None = None
    """The column whose counts per value go into the manifest; None: no label map."""
    min_rows: Annotated[int, Meta(ge=0)] = 1
    """Fewer valid rows than this: the site is refused for the job, by name."""
    max_quarantined: Fraction = 0.5
    """A larger share of bad rows than this: the site is refused for the job."""


class DataSpec(Value, frozen=True, kw_only=True):
    """[data]: the data set each site holds under this name."""

    dataset: Name
    contract: Contract = field(default_factory=Contract)
    prepare: Entry | None = None
    """For a run with local sites: a function (target folder, --data folder or None) -> None that writes one
    folder per site. None: `--data` already holds one folder per site."""


class LocalTraining(Value, frozen=True, kw_only=True):
    """[federation.local]: what a site does with a round."""

    epochs: Positive = 1
    batch_size: Positive = 32
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Rate = 0.1
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    clip_norm: Rate | None = None
    """Largest L2 norm of a batch's gradient; None: not clipped."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate over rounds; linear and cosine fall to zero at the last round, after `warmup_rounds`."""
    warmup_rounds: Annotated[int, Meta(ge=0)] = 0


class RobustSpec(Value, frozen=True, kw_only=True):
    """[federation.robust]: a rule in the place of the mean, against sites that lie. Each update then counts once."""

    rule: Literal["trimmed-mean", "centred-clipping", "median", "geometric-median", "krum", "multi-krum"] = (
        "trimmed-mean"
    )
    tolerate: Positive
    """Sites of a round that may lie, and the model still be good: f in the papers."""
    mixing: Literal["nearest-neighbours", "buckets", "none"] = "nearest-neighbours"
    """What the rule is given: each update averaged with those nearest to it; averages of a few drawn ones; or each."""
    bucket: Annotated[int, Meta(ge=2)] = 2
    """For "buckets": updates averaged in each."""
    radius: Rate | None = None
    """For "centred-clipping": how far an update may pull at the most; None: the median distance from the centre."""


class FederationSpec(Value, frozen=True, kw_only=True):
    """[federation]: how many updates become one model."""

    algorithm: Literal["fedavg", "fedprox", "scaffold", "fedadam", "fedyogi", "fedavgm"] = "fedavg"
    options: dict[str, float] = field(default_factory=dict)
    """The algorithm's own parameters, such as {mu = 0.01}; unknown ones are refused by the algorithm."""
    rounds: Positive = 10
    cohort: Fraction = 1.0
    """Share of the sites asked in each round, drawn from the seed."""
    min_sites: Positive = 1
    """The run starts when this many sites that pass the contract are present (0 is not a federation)."""
    sites: tuple[Name, ...] = ()
    """Which sites take part; empty: every site that holds the data set when the run starts."""
    absent: Literal["wait", "quorum"] = "wait"
    """A site that is away: wait for it, or close the round once `quorum` of the cohort has answered."""
    quorum: Fraction = 0.8
    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    weighting: Literal["examples", "uniform"] = "examples"
    robust: RobustSpec | None = None
    """None: updates are averaged, and one site that lies can spoil the model."""
    compression: CompressionSpec | None = None
    """None: updates are sent as they are."""
    local: LocalTraining = field(default_factory=LocalTraining)


class EvaluationSpec(Value, frozen=True, kw_only=True):
    """[evaluation]: what the report compares, and how."""

    every: Annotated[int, Meta(ge=0)] = 0
    """Score the global model on the sites' validation rows each so many rounds; 0: only at the end."""
    alone: bool = False
    """Each site also trains alone, with the same budget of epochs."""
    cross: bool = False
    """Show the models of single sites (alone, personalised) to the other sites, which score them on their own rows.
    False: such a model never leaves its site and is scored there only."""
    personalise_epochs: Annotated[int, Meta(ge=0)] = 0
    """Epochs of local fine-tuning of the final model at each site; 0: no personalised copies."""
    personalise_learning_rate: Rate | None = None
    """None: the learning rate of [federation.local]."""
    reference: Entry | None = None
    """A function (job, --data folder or None) -> dict for a separate process that computes the pooled reference."""


class PrivacySpec(Value, frozen=True, kw_only=True):
    """[privacy]: what may leave a site besides updates, and how much noise is in what leaves."""

    statistics: bool = True
    """May the task ask for sums and counts over rows (federated scaling, label counts)?"""
    histograms: bool = True
    """May score histograms (for AUC) leave the site at evaluation?"""
    central: CentralPrivacy | None = None
    """None: the coordinator adds no noise."""
    examples: ExamplePrivacy | None = None
    """None: sites train without noise."""
    local: LocalPrivacy | None = None
    """None: sites send their updates without noise of their own."""
    distributed: DistributedPrivacy | None = None
    """None: what is summed under secure aggregation has no noise."""
    secure_aggregation: Literal["none", "secagg", "two-server"] = "none"
    """Otherwise than with "none", control learns the sum of the sites' statistics, updates and scores, and no single
    one of them. "secagg": sites mask for each other; "two-server": a helper takes the masks off, and each site says one
    thing."""
    helper: Name | None = None
    """The site that helps with "two-server": it joins like any other, holds no rows of the job and trains nothing. Who
    runs it and who runs control must not work together."""
    update_range: Rate = 16.0
    """With secure aggregation: each weight's change in a round lies within plus or minus this; a site whose change
    goes beyond refuses. The smaller, the finer the steps in which changes are added."""

    @property
    def is_noisy(self) -> bool:
        """Is there noise in what is published?"""
        return self.central is not None or self.is_noisy_at_sites

    @property
    def is_noisy_at_sites(self) -> bool:
        """Do sites add it, before anything leaves them?"""
        return self.is_noisy_in_training or self.distributed is not None

    @property
    def is_noisy_in_training(self) -> bool:
        """Is it part of a site's training, and in the update that comes of it?"""
        return self.examples is not None or self.local is not None


class ResourceSpec(Value, frozen=True, kw_only=True):
    """[resources]: what a site must have to be asked."""

    memory_mb: Positive | None = None
    """Free memory needed at a site, in MB; None: not checked."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["exact", "auto"] = "exact"
    """Of training steps; "auto": products in bfloat16 where the site's device is made for them (PyTorch alone)."""


class DeploymentSpec(Value, frozen=True, kw_only=True):
    """[deployment]: what happens with the final model."""

    serve: Literal["none", "global", "personalised"] = "none"
    """Which copy each site serves on loopback; "personalised" falls back to the global model where there is none."""
    question: dict[str, list[Scalar | list[Scalar]]] = field(default_factory=dict)
    """An example that a run with local sites asks every site's endpoint at the end: input → one value a row."""


Sampling = Literal["fixed", "poisson", "turns"]


class SimulationSpec(Value, frozen=True, kw_only=True):
    """[simulation]: `archipel simulate` divides one data set among virtual clients. Live runs pass it over."""

    clients: Positive = 1000
    """How many there are; with partition = "key" as many as the key has values."""
    cohort: Positive = 50
    """Clients that train in a round, drawn from the seed; all of them where there are fewer."""
    sampling: Sampling = "fixed"
    """"fixed": `cohort` clients, exactly; "poisson": each by itself with the same chance, `cohort` on average; "turns":
    `cohort` clients in an order drawn once, each again only after all others."""
    partition: Literal["uniform", "key", "dirichlet", "shards"] = "uniform"
    """Whose rows are whose: any; those that share a value; with skewed labels; a few runs of rows sorted by label."""
    key: str | None = None
    """For "key": the name of the sample, among those `read` returns, whose value names the client."""
    label: str = "label"
    """For "dirichlet" and "shards": the name of the sample that holds the class."""
    rows: Positive = 60
    """Median number of a client's rows, for "uniform" and "dirichlet"."""
    rows_sigma: Annotated[float, Meta(ge=0, le=3)] = 0.0
    """Their log-normal spread; 0: all have the same number."""
    alpha: Rate = 0.5
    """For "dirichlet": concentration of a client's labels; the smaller, the fewer labels it has."""
    shards: Positive = 2
    """For "shards": how many a client gets."""
    executor: Literal["auto", "loop", "stacked", "compiled"] = "auto"
    """How a cohort is computed; "auto" measures the job's own model and says what it took."""
    time: TimeSpec | None = None
    """How long clients take, and when a round ends; None: rounds take no time and wait for all."""


class SearchParameter(Value, frozen=True, kw_only=True):
    """[search.parameters] "DOTTED.KEY": what trials give to a key of the job; a range, or choices."""

    low: int | float | None = None
    """Smallest value; whole numbers where the key takes them."""
    high: int | float | None = None
    """Largest value."""
    log: bool = False
    """Spread trials evenly over magnitudes, as for rates."""
    choices: tuple[Scalar, ...] = ()
    """Empty: a range from `low` to `high`."""


class SearchSpec(Value, frozen=True, kw_only=True):
    """[search]: `archipel search` looks for values of the job's keys. Runs and simulations pass it over."""

    parameters: dict[str, SearchParameter]
    """Dotted key of the job → its values; see `simulation.search.space` for the keys there are."""
    trials: Positive = 20
    """How many are made; a search that is over goes on when there are more."""
    metric: str = "accuracy"
    """The figure on the validation rows that is made best."""
    direction: Literal["maximize", "minimize"] | None = None
    """None: by the metric's name; losses and errors are made small."""
    pruning: Literal["halving", "none"] = "halving"
    """"halving" ends trials early that are worse than others were after as many rounds."""
    min_rounds: Positive | None = None
    """Rounds that every trial gets; None: the job's, divided twice by `reduction_factor`."""
    reduction_factor: Annotated[int, Meta(ge=2)] = 3
    """Of so many trials that come so far, one goes on; the next look is after so many times the rounds."""


class JobSpec(Value, frozen=True, kw_only=True, tag_field="type", tag="job/1"):
    """A job as its owner wrote it."""

    name: Name
    task: TaskSpec
    data: DataSpec
    federation: FederationSpec = field(default_factory=FederationSpec)
    evaluation: EvaluationSpec = field(default_factory=EvaluationSpec)
    privacy: PrivacySpec = field(default_factory=PrivacySpec)
    resources: ResourceSpec = field(default_factory=ResourceSpec)
    deployment: DeploymentSpec = field(default_factory=DeploymentSpec)
    simulation: SimulationSpec | None = None
    """None: a simulation has the sites of a live run."""
    search: SearchSpec | None = None
    """None: there is nothing to search."""
    control: str | None = None
    """Address of the control plane, such as "https://control.example:7400"; None: local sites for this run."""

    def name_run(self, chance: bytes) -> str:
        """Return a name for a run of this job, with 4 random bytes in it."""
        return f"{self.name[:54]}-{chance.hex()}"

    @property
    def helpers(self) -> tuple[str, ...]:
        """Sites that hold none of its rows and are asked all the same: the helper of secure sums, if there is one."""
        return () if self.privacy.helper is None else (self.privacy.helper,)

    @property
    def digest(self) -> str:
        """Digest of the job: two runs of equal digest, seed and participation give equal bytes."""
        return digest_value(self)


def read_job(path: Path, presets: tuple[str, ...] = ()) -> JobSpec:
    """Read and check a job file; `presets` name tables under [preset.NAME] laid over the rest, in order.

    Raises:
        SpecError: the file is absent, not TOML, or a value has the wrong type.
        UnknownNameError: a key or preset does not exist; the hint names the nearest one.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SpecError(f"no job file at {path}", hint="give the path of a job.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not valid TOML: {error}", hint="mend the line it names") from error
    return job_from(document, presets, where=str(path))


def job_from(document: dict[str, Any], presets: tuple[str, ...] = (), *, where: str = "job") -> JobSpec:
    """Check a parsed document; see `read_job`."""
    refuse_non_finite(document, where)
    known = document.pop("preset", {})
    _check_presets(known, where)
    for preset in presets:
        if preset not in known:
            raise UnknownNameError.of("preset", preset, known)
        document = overlay(document, known[preset])
    _refuse_unquoted(document, where)
    refuse_unknown(document, JobSpec, where)
    try:
        return msgspec.convert({"type": "job/1", **document}, JobSpec)
    except msgspec.ValidationError as error:
        raise SpecError(f"{where}: {error}", hint="`archipel schema` prints what each key takes") from error


def _check_presets(presets: Any, where: str) -> None:
    """Hold every preset against the job's keys, also those that are not asked for now."""
    tables = presets if isinstance(presets, dict) else {"NAME": presets}
    for name, preset in tables.items():
        if not isinstance(preset, dict):
            hint = "put its keys below a line such as [preset.quick.federation]"
            raise SpecError(f"[preset.{name}] in {where} is no table", hint=hint)
        refuse_unknown(preset, JobSpec, f"{where} [preset.{name}]")


def _refuse_unquoted(document: dict[str, Any], where: str) -> None:
    """Refuse `a.b = {low = 1}` in [search.parameters], which TOML reads as tables in each other."""
    search = document.get("search")
    parameters = search.get("parameters") if isinstance(search, dict) else None
    for name, table in parameters.items() if isinstance(parameters, dict) else ():
        if isinstance(table, dict) and any(isinstance(value, dict) for value in table.values()):
            hint = f'put the whole key in quotes: "{name}.{next(iter(table))}…" = {{ low = …, high = … }}'
            raise SpecError(f"{where} [search.parameters]: {name} is a table of tables", hint=hint)
