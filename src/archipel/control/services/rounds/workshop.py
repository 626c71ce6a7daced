"""The workshop: one thread that folds rounds and finishes runs, one piece of work at a time, so that memory stays flat.

    Fold     combine the spooled updates into new files → keep them in the artefact store → RoundFolded
    Finish   register the model → order it served → the run is over

Both may be carried out again after a kill at any step: files are named by their bytes, the registry knows the run.
A full disk or an artefact store that is away only delays the work; whatever else goes wrong fails the run, by name,
and it can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import structlog

from archipel.control.services.rounds.driver import Driver
from archipel.control.services.rounds.finishing import Finisher
from archipel.control.store.holdings import Holdings
from archipel.data.stores.artefacts import Artefacts
from archipel.data.stores.spool import Spool
from archipel.federated.contribution import UnusableUpdateError
from archipel.federated.folding import carry_out, rejection
from archipel.federated.port import Finish, Fold, RunFailed
from archipel.federated.private_mean import Noising
from archipel.security.privacy import kept_secret, run_secret
from archipel.spec import ArchipelError, Blob, LinkError, StorageFullError, failpoint


class After(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the workshop tells."""

    delay: Callable[[Driver, ArchipelError], None]
    """The work could not be done now; it is to be tried again."""
    done: Callable[[Driver], None]
    """The run is over."""


class Workshop:
    """Carries out Folds and Finishes."""

    def __init__(
        self,
        spool: Spool,
        artefacts: Artefacts,
        holdings: Holdings,
        finisher: Finisher,
        after: After,
        *,
        noise_key: Path,
    ) -> None:
        self._spool = spool
        self._artefacts = artefacts
        self._holdings = holdings
        self._finisher = finisher
        self._after = after
        self._noise_key = noise_key
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workshop")

    def submit(self, driver: Driver, instruction: Fold | Finish) -> None:
        """Queue a piece of work."""
        self._thread.submit(self._do, driver, instruction)

    def close(self) -> None:
        """Finish what is under way; what waits is done at the next start."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _do(self, driver: Driver, instruction: Fold | Finish) -> None:
        try:
            if isinstance(instruction, Fold):
                self._fold(driver, instruction)
            else:
                self._finisher.finish(driver, instruction)
                self._after.done(driver)
        except (StorageFullError, LinkError) as error:
            self._after.delay(driver, error)
        except Exception as error:  # noqa: BLE001 - the run fails by name, and can be resumed
            structlog.get_logger().error("workshop.failed", run=driver.run, exc_info=True)
            self._fail(driver, error)

    def _fold(self, driver: Driver, instruction: Fold) -> None:
        if not driver.is_open(instruction):
            return  # ordered twice, as by a resume while it was under way: the blobs it names may be gone
        for blob in (instruction.model, instruction.state):
            if blob is not None:
                self._artefacts.bring(blob, self._spool)
        try:
            noising = Noising.of(driver.job, lambda: run_secret(kept_secret(self._noise_key), driver.run))
            folded = carry_out(instruction, driver.job.federation, self._spool, driver.run, noising)
        except UnusableUpdateError as error:
            driver.take(rejection(instruction, error))
            return
        failpoint("control.fold.after_write")
        made = [blob for blob in (folded.model, folded.state, folded.sums) if blob is not None]
        self._keep(driver.holder, made)
        if instruction.kind == "evaluate" and instruction.unmasking is None and not instruction.facts.step:
            # The report needs each site's own sums: they stay when the round's updates go.
            own = [update.parts["sums"].blob for update in instruction.updates]
            self._keep(report_holder(driver.run), own)
        if folded.sums is not None:
            self._holdings.hold(report_holder(driver.run), [folded.sums.digest])
        failpoint("control.fold.after_artefact")
        driver.take(folded)
        failpoint("control.fold.after_journal")

    def _keep(self, holder: str, blobs: list[Blob]) -> None:
        self._holdings.hold(holder, [blob.digest for blob in blobs])
        for blob in blobs:
            self._artefacts.put_file(self._spool.require(blob.digest), blob)

    def _fail(self, driver: Driver, error: Exception) -> None:
        hint = getattr(error, "hint", "") or f"mend the reason, then `archipel resume {driver.run}`"
        message = f"{type(error).__name__}: {error}"
        try:
            driver.take(RunFailed(error=type(error).__name__, message=message, hint=hint))
        except ArchipelError as trouble:
            self._after.delay(driver, trouble)


def report_holder(run: str) -> str:
    """Return the name under which a run's report holds blobs."""
    return f"report/{run}"
