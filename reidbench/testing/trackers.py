"""The contract checks of trackers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reidbench.runs.tracking import TrackedRun, Tracker
from reidbench.testing.items import HOSTILE, BuildChecks, example_records


def check_tracker(tracker: str | Callable[..., Tracker], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a tracker passes, on a run without scores, then with, in a folder.

    ``tracker`` is a spec of an installed tracker or a factory ``(*, options) -> Tracker`` with ``options``. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    return _TrackerChecks("tracker", tracker, options).run()


class _TrackerChecks(BuildChecks):
    expected = Tracker

    def check_a_run_that_resumes(self) -> None:
        record = example_records()[0]
        interrupted = replace(record, status="interrupted", error=HOSTILE, scores={})
        with tempfile.TemporaryDirectory() as folder:
            for step, result in ((0, interrupted), (2, record)):
                built = self.create()
                built.start(TrackedRun("a-run", 64 * "0", Path(folder), step, {"loss": HOSTILE, "seed": 0, "steps": 4}))
                for each in range(step, 4):
                    built.log(each, {"loss": 0.5, "validation.r1": 1.0})
                built.log(3, {"active": 1.0})
                built.finish(result)
