"""The report of a run: scores from sums, bytes, seconds, and what each site disclosed; all from what was kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from archipel.control.services.jobs.past import round_seconds, seen_before, sizes_of
from archipel.control.services.rounds.scores import Sums, Tables, breakdowns_of, by_model, overall_of
from archipel.control.services.rounds.standing import Standing
from archipel.control.services.rounds.verification import tensor_names
from archipel.control.store import journal
from archipel.control.store import runs as rows
from archipel.control.store.database import Database
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.federated.port import RoundFolded, UpdateAccepted
from archipel.federated.robust.cohorts import fewest_updates
from archipel.federated.secure.legs import LEAST_SITES, LEGS
from archipel.federated.secure.opening import MASKED
from archipel.federated.secure.plan import secure_plan
from archipel.planner.grading import Took, graded
from archipel.planner.pace import Seen
from archipel.planner.plan import draw_plan
from archipel.planner.traffic import Sizes, cohort_size
from archipel.security.privacy import releases_of
from archipel.spec import Blob, DatasetManifest, Grade, JobSpec, SecurePlan, Update, encode, unpack
from archipel.spec.privacy import Guarantee
from archipel.spec.views import Disclosure, Moved, RunReport, RunView, SiteReport

MANIFEST = "manifest"
MESSAGES = "messages"
SUMMED = {"sums", MASKED}


class Reports:
    """Makes reports."""

    def __init__(self, database: Database, standing: Standing, spool: Spool, artefacts: Artefacts) -> None:
        self._database = database
        self._standing = standing
        self._spool = spool
        self._artefacts = artefacts

    def report(self, run: str) -> RunReport:
        """Return the report of a run, as far as it has come."""
        progress = self._standing.progress(run)
        updates, folded, closed, moved = self._database.read(lambda connection: _kept(connection, run))
        tables = Tables.of(self._evaluated(updates))
        manifests = {update.site: update.dataset for update in updates if update.dataset is not None}
        trained = [row for row in closed if row.kind == "train" and row.model is not None]
        total = {} if tables.kinds else self._total(closed)
        models = [row.model for row in closed if row.model is not None]
        phases: dict[str, float] = defaultdict(float)
        for row in closed:
            phases[row.kind] += row.closed_at - row.opened_at
        return RunReport(
            run=progress.run,
            rounds=len(trained),
            model_digest=models[-1] if models else None,
            sites=tuple(_site(site, manifests.get(site), tables) for site in progress.run.sites),
            overall=overall_of(total) if total else tables.overall(),
            seconds=progress.seconds,
            seconds_by_phase=dict(phases),
            bytes_moved=progress.up_bytes + progress.down_bytes,
            moved=moved,
            disclosures=self._disclosures(updates, folded),
            losses=progress.losses,
            secure=self._secure(run, len(progress.run.sites)),
            breakdowns=breakdowns_of(total) if total else tables.breakdowns(),
            privacy=self._spent(run, len(trained)),
            grades=self._grades(progress.run, manifests, moved, progress.seconds),
        )

    def _grades(
        self, run: RunView, manifests: Mapping[str, DatasetManifest], moved: Iterable[Moved], seconds: float
    ) -> tuple[Grade, ...]:
        """Draw the plan again as it stood when the run began, but for the model's size, and hold it against the run."""
        if run.state != "finished" or len(manifests) < len(run.sites):
            return ()

        def question(connection: Connection) -> tuple[JobSpec, Sizes, Seen | None, dict[str, list[float]]]:
            row = rows.run_row(connection, run.id)
            assert row is not None
            job = rows.job_of(row)
            seen = seen_before(connection, job, before=row.submitted_at)
            return job, sizes_of(connection, run.id), seen, round_seconds(connection, run.id)

        job, sizes, seen, came = self._database.read(question)
        plan = draw_plan(job, manifests, sizes, seen=seen)
        trained = [item for item in moved if item.phase == "train"]
        took = Took(
            round_seconds={site: median(found) for site, found in came.items()},
            seconds=seconds,
            down_bytes=sum(item.down_bytes for item in trained),
            up_bytes=sum(item.up_bytes for item in trained),
        )
        return graded(plan, took)

    def _spent(self, run: str, rounds: int) -> Guarantee | None:
        row = self._database.read(lambda connection: rows.run_row(connection, run))
        releases = None if row is None else releases_of(rows.job_of(row))
        return None if releases is None else releases.guarantee(rounds)

    def _evaluated(self, updates: Iterable[Update]) -> dict[str, Sums]:
        """Return the sums of the last evaluation round, by site."""
        scored = [update for update in updates if update.kind == "evaluate"]
        last = max((update.round for update in scored), default=None)
        found: dict[str, Sums] = {}
        for update in scored:
            if update.round == last and "sums" in update.parts:
                blob = update.parts["sums"].blob
                found[update.site] = unpack(self._artefacts.fetch(blob, self._spool))
        return found

    def _secure(self, run: str, sites: int) -> SecurePlan | None:
        row = self._database.read(lambda connection: rows.run_row(connection, run))
        job = None if row is None else rows.job_of(row)
        if job is None or cohort_size(job, sites) < LEAST_SITES:
            return None
        return secure_plan(job, cohort_size(job, sites), fewest_updates(job.federation, sites))

    def _total(self, closed: Sequence[Row[Any]]) -> dict[str, Sums]:
        """Return the added sums of the last evaluation, by kind of model: all that a secure sum says."""
        digests = [row.sums for row in closed if row.kind == "evaluate" and row.sums is not None]
        for digest in digests[-1:]:
            blob = Blob(digest=digest, size_bytes=0)
            return by_model(unpack(self._artefacts.fetch(blob, self._spool)))
        return {}

    def _disclosures(self, updates: Iterable[Update], folded: Mapping[int, Blob]) -> tuple[Disclosure, ...]:
        found: dict[tuple[str, str, str], Disclosure] = {}
        named: dict[str, tuple[str, ...]] = {}
        for update in updates:
            if update.dataset is not None:
                names = tuple(sorted(update.dataset.columns))
                _add(found, _disclosed(update, MANIFEST, len(encode(update.dataset)), names))
            if update.message:
                _add(found, _disclosed(update, MESSAGES, len(update.message), ()))
            for part, sent in update.parts.items():
                if not sent.shared:
                    continue
                # Only the final evaluation's own sums are kept; those of other rounds went into the added ones.
                blob = sent.blob if part == "sums" and self._is_kept(sent.blob) else _sum_of(update, folded)
                if part in SUMMED and blob is not None and blob.digest not in named:
                    named[blob.digest] = self._names(blob)
                names = named.get(blob.digest, ()) if part in SUMMED and blob is not None else ()
                _add(found, _disclosed(update, part, sent.blob.size_bytes, names))
        return tuple(found[key] for key in sorted(found))

    def _is_kept(self, blob: Blob) -> bool:
        return self._spool.has(blob.digest) or self._artefacts.has(blob.digest)

    def _names(self, blob: Blob) -> tuple[str, ...]:
        """Return the names of sums, by kind of model where they are scores."""
        self._artefacts.bring(blob, self._spool)
        with self._spool.open(blob.digest) as file:
            names = tensor_names(file)
        return tuple(sorted({_kind_of_model(name) for name in names}))


def _kept(connection: Connection, run: str) -> tuple[list[Update], dict[int, Blob], list[Row[Any]], tuple[Moved, ...]]:
    updates: list[Update] = []
    folded: dict[int, Blob] = {}
    for _, event in journal.replay(connection, run):
        if isinstance(event, UpdateAccepted):
            updates.append(event.update)
        elif isinstance(event, RoundFolded) and event.sums is not None:
            folded[event.round] = event.sums
    return updates, folded, rows.rounds_of(connection, run), rows.bytes_of(connection, run)


def _sum_of(update: Update, folded: Mapping[int, Blob]) -> Blob | None:
    """Return the sums an update went into: those of its own round, or of the last leg of a secure sum."""
    legs = range(update.round, update.round + len(LEGS) if update.message else update.round + 1)
    return next((folded[number] for number in legs if number in folded), None)


def _site(name: str, manifest: DatasetManifest | None, tables: Tables) -> SiteReport:
    return SiteReport(
        name=name,
        rows=0 if manifest is None else manifest.rows,
        test_rows=tables.test_rows(name),
        labels={} if manifest is None else manifest.labels,
        quarantined={} if manifest is None else manifest.quarantined,
        scores=tables.at(name),
    )


def _disclosed(update: Update, part: str, size_bytes: int, names: tuple[str, ...]) -> Disclosure:
    return Disclosure(site=update.site, phase=update.kind, part=part, times=1, total_bytes=size_bytes, names=names)


def _add(found: dict[tuple[str, str, str], Disclosure], one: Disclosure) -> None:
    key = (one.site, one.phase, one.part)
    before = found.get(key)
    if before is not None:
        one = msgspec.structs.replace(
            one,
            times=before.times + 1,
            total_bytes=before.total_bytes + one.total_bytes,
            names=tuple(sorted({*before.names, *one.names})),
        )
    found[key] = one


def _kind_of_model(name: str) -> str:
    model, bar, rest = name.rpartition("|")
    return f"{model.partition('/')[0]}{bar}{rest}"
