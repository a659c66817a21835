"""What a training or a test cost on this machine. No output of a stage holds it, since no two runs cost the same."""

import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from biopsy.core.energy import Energy
from biopsy.core.errors import reason_of, warn
from biopsy.core.layout import home_of

COSTS = Path("data/.resume/costs.jsonl")  # stays on this machine, beside the locks
Stage = Literal["train", "evaluate"]


class Cost(BaseModel):
    """One line of `COSTS`.

    Attributes
    ----------
    name
        Such as 'binary-case'.
    models
        SHA-256 of each model.keras that was trained or tested.
    seconds, cpu_seconds
        Wall time, and CPU time of all cores together.
    peak_mb
        The most memory that the process held.
    processor, cores, gpus
        What it ran on.
    joules
        Energy of the processors, other programs included; None where it cannot be measured.
    resumed
        Whether an interrupted run had already done a part, which is not counted.
    """

    model_config = ConfigDict(frozen=True)

    stage: Stage
    name: str
    models: list[str] = Field(min_length=1)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    cpu_seconds: float = Field(ge=0, allow_inf_nan=False)
    peak_mb: int = Field(ge=0)
    processor: str
    cores: int = Field(ge=1)
    gpus: list[str] = []
    joules: float | None = Field(None, ge=0, allow_inf_nan=False)
    resumed: bool = False


class Meter:
    """Measures from when it is made until `end`.

    Parameters
    ----------
    root
        The project's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._energy, self._start, self._cpu = Energy(), time.monotonic(), _cpu_seconds()

    def end(
        self, stage: Stage, name: str, models: Sequence[str], gpus: Sequence[str] = (), resumed: bool = False
    ) -> Cost:
        """Measure, and add a line to `COSTS` of the project, also for an experiment in a folder of its own."""
        joules = self._energy.joules()
        cost = Cost(
            stage=stage,
            name=name,
            models=list(models),
            seconds=round(time.monotonic() - self._start, 1),
            cpu_seconds=round(_cpu_seconds() - self._cpu, 1),
            peak_mb=_peak_mb(),
            processor=processor_name(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            gpus=list(gpus),
            joules=None if joules is None else round(joules),
            resumed=resumed,
        )
        path = (home_of(self.root.resolve()) or self.root) / COSTS
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:  # a line at once: others may append, too
                stream.write(cost.model_dump_json().encode() + b"\n")
        except OSError as error:
            warn(f"{path}: the cost of this run is not noted ({reason_of(error)}).")
        return cost


def read_costs(root: Path) -> list[Cost]:
    """Read what was noted in a project, the latest last; a line that is torn or not ours counts as absent."""
    try:
        lines = (root / COSTS).read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Cost.model_validate_json(line))
        except ValidationError:
            continue
    return found


def costs_of(page: str, costs: Sequence[Cost]) -> list[Cost]:
    """Pick the latest cost of each training and test whose models a report names."""
    found = {(cost.name, cost.stage): cost for cost in costs if all(sha256 in page for sha256 in cost.models)}
    return sorted(found.values(), key=lambda cost: (cost.name, cost.stage == "evaluate"))


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def processor_name() -> str:
    """Return the processor's name as its maker gives it, or its kind where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
