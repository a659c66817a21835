"""Claim: what needs no model answers at once.

    python benchmarks/startup.py            about 2 minutes; the finished pipeline of this folder for all rows

Each command in a process of its own, in rounds; the figure is the median of its wall time, after a round that fills the
disk's cache. `dvc repro` of the sample runs once, in a clone, without any earlier result; `--quick` leaves it out.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import ROOT, Row, Run, options, parse, tell, timed

BIOPSY = (sys.executable, "-P", "-m", "biopsy.cli")  # -P: this code, whatever the folder holds
COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "import biopsy": ((sys.executable, "-c", "import biopsy"), 0.1),
    "importing TensorFlow": ((sys.executable, "-c", "from biopsy.networks.backend import tf"), 2.5),
    "biopsy --help": ((*BIOPSY, "--help"), 0.15),
    "biopsy list": ((*BIOPSY, "list"), 1),
    "biopsy results": ((*BIOPSY, "results"), 1),
    "biopsy info": ((*BIOPSY, "info", "models/binary-case"), 1),
    "biopsy compare": ((*BIOPSY, "compare", "HEAD", "workspace"), 1),
    "biopsy report": ((*BIOPSY, "report", "--out", "{out}/report.html"), 1),
    "biopsy show-augment": ((*BIOPSY, "show-augment", "flips", "--out", "{out}/sheet.png"), 1),
    "dvc repro, nothing to do": ((sys.executable, "-m", "dvc", "repro"), 1.5),
}
NEEDS_RUN = ("biopsy results", "biopsy info", "biopsy compare", "biopsy report", "dvc repro, nothing to do")


def finished(project: Path) -> bool:
    """Say whether the pipeline has run here and nothing is stale."""
    if not (project / "models").is_dir():
        return False
    status = [sys.executable, "-m", "dvc", "status", "--quiet"]
    return subprocess.run(status, cwd=project, capture_output=True).returncode == 0


def sample() -> Run:
    """Run the pipeline in a new clone."""
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch, "clone")
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        return timed(sys.executable, "-m", "dvc", "repro", cwd=clone, PYTHONPATH=str(clone))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--project", type=Path, default=ROOT, help="a clone whose pipeline has run (default: this one)")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parse(parser, rounds=3)
    there = finished(chosen.project)
    if not there:
        print(f"left out: {', '.join(NEEDS_RUN)}; they need a finished `dvc repro` in {chosen.project}")
    found: dict[str, list[Run]] = {name: [] for name in COMMANDS if there or name not in NEEDS_RUN}
    with tempfile.TemporaryDirectory() as out:
        for number in range(chosen.rounds + 1):
            for name, runs in found.items():
                run = timed(*(word.format(out=out) for word in COMMANDS[name][0]), cwd=chosen.project)
                runs += [run] * (number > 0)
    if not chosen.quick:
        run = sample()
        tell(Row("dvc repro, the sample", run.seconds, "s", goal="<=90", peak_mb=run.peak_mb))
    for name, runs in found.items():
        seconds, peak = (statistics.median(getattr(run, key) for run in runs) for key in ("seconds", "peak_mb"))
        tell(Row(name, seconds, "s", goal=f"<={COMMANDS[name][1]}", peak_mb=peak))


if __name__ == "__main__":
    main()
