"""What the benchmarks share: options, rounds that alternate, processes of their own, and rows for the table.

A row says what was measured, ours and a peer's figure, how many times better ours is, the goal, and the peak of memory.
`tell` prints rows and, for `benchmarks/run.py`, writes them as JSON lines to the file that BENCHMARK_ROWS names.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).resolve().parent.parent
MISSING = "not installed"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what
        In a few words.
    ours, unit
        Our figure; '/s' is a rate (images a second), 's' are seconds, 'MB' is memory.
    peer, other
        What ours is compared with, and its figure; None: `MISSING`, where a peer is named.
    ratio
        How many times better ours is: the median over the rounds.
    goal
        '>=2' of the ratio, or '<=2' of our figure; empty: none.
    peak_mb
        The most memory that the process of ours held.
    """

    what: str
    ours: float
    unit: str = "/s"
    peer: str = ""
    other: float | None = None
    ratio: float | None = None
    goal: str = ""
    peak_mb: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None: there is none, or the peer is not installed."""
        if not self.goal or (self.goal[0] == ">" and self.ratio is None):
            return None
        least, limit = self.goal[:2] == ">=", float(self.goal[2:])
        return (self.ratio or 0) >= limit if least else self.ours <= limit

    def line(self) -> str:
        """Return it as cells of the table, without spaces beside the pipes."""
        other = f"{self.peer} {short(self.other)}" if self.peer else ""
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        goal = self.goal.replace(">=", "≥").replace("<=", "≤")
        cells = (
            self.what,
            f"{short(self.ours)}{self.unit}",
            other,
            short(self.ratio, ""),
            goal,
            short(self.peak_mb, ""),
        )
        return "|".join((*cells, met))


def short(figure: float | None, without: str = MISSING) -> str:
    """Write a figure with three digits that count."""
    if figure is None:
        return without
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def tell(*rows: Row) -> bool:
    """Print rows, and write them where `BENCHMARK_ROWS` says; return whether no goal is missed."""
    for row in rows:
        print(row.line().replace("|", " | "), flush=True)
        if path := os.environ.get("BENCHMARK_ROWS"):
            with Path(path).open("a") as stream:
                stream.write(json.dumps(asdict(row)) + "\n")
    return all(row.met is not False for row in rows)


def options(words: str | None) -> ArgumentParser:
    """Start a script's options; `words` is its docstring."""
    return ArgumentParser(description=words, formatter_class=RawDescriptionHelpFormatter)


def parse(parser: ArgumentParser, **quick: Any) -> Namespace:
    """Parse the command line; with `--quick` the options `quick` have other defaults."""
    parser.add_argument("--quick", action="store_true", help="a smaller run, for a first look")
    if "--quick" in sys.argv:
        parser.set_defaults(**quick)
    return parser.parse_args()


def rounds(ways: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Run each way once a round, so that a busy machine slows all of them alike; return their figures."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count):
        for name, way in ways.items():
            found[name].append(way())
    return found


def ratio(one: Iterable[float], other: Iterable[float]) -> float:
    """Return the median over the rounds of one way's figure by another's of the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def peak_mb() -> float:
    """Return the most memory that this process has held, in MB (VmHWM, Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


class Run(NamedTuple):
    """What a command took: seconds, those of the processor, and its peak of memory in MB."""

    seconds: float
    processor: float
    peak_mb: float


def timed(*command: str | Path, cwd: Path = ROOT, **variables: str) -> Run:
    """Run a command to its end, from a small process: Linux counts the peak of what starts a process as its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    launcher = [sys.executable, __file__, *command]
    done = subprocess.run(launcher, cwd=cwd, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}")
    return Run(*json.loads(done.stdout))


def _launch(command: Sequence[str]) -> None:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    taken, process.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(1)
    print(json.dumps(Run(taken, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)))


class Worker:
    """A way that is measured in a process of its own, which makes itself ready once and then runs a round when told."""

    def __init__(self, command: Sequence[str | Path], **variables: str) -> None:
        """Start it; `command` ends in `work`."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.peak_mb = 0.0
        self.missing = "missing" in self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def round(self) -> float:
        """Run one round; return its figure."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told = self._answer()
        self.peak_mb = told["peak"]
        return float(told["figure"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("ROUND "):
                answer: dict[str, Any] = json.loads(line[6:])
                return answer
        raise RuntimeError(f"a process ended without its figure, code {self._process.wait()}")


def ready(missing: str | None = None) -> None:
    """Say, as a `Worker`, that rounds can begin, or which package is missing."""
    print("ROUND", json.dumps({"missing": missing} if missing else {}), flush=True)


def wait_for_round() -> None:
    """Wait, as a `Worker`, until a round is asked for; end the process when none is."""
    if not sys.stdin.readline():
        sys.exit()


def tell_round(figure: float) -> None:
    """Tell, as a `Worker`, what a round came to."""
    print("ROUND", json.dumps({"figure": figure, "peak": peak_mb()}), flush=True)


def work(prepare: Callable[[], Callable[[], float]]) -> None:
    """Be a `Worker`: prepare, and run a round each time it is asked for; a package that is missing ends it."""
    try:
        run = prepare()
    except ModuleNotFoundError as error:
        return ready(error.name)
    ready()
    while True:
        wait_for_round()
        tell_round(run())


class Found(NamedTuple):
    """The figures of a way, one a round, and its peak of memory in MB."""

    figures: list[float]
    peak_mb: float

    @property
    def middle(self) -> float:
        """The median."""
        return statistics.median(self.figures)


def compare(commands: Mapping[str, Sequence[str | Path]], count: int, **variables: str) -> dict[str, Found]:
    """Start a `Worker` for each command and run rounds that alternate; ways whose packages are missing are left out."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(command, **variables)) for name, command in commands.items()}
        there = {name: worker for name, worker in workers.items() if not worker.missing}
        for worker in there.values():
            worker.round()  # warm caches and compiled code
        figures = rounds({name: worker.round for name, worker in there.items()}, count)
        return {name: Found(figures[name], worker.peak_mb) for name, worker in there.items()}


def versus(what: str, found: Mapping[str, Found], peer: str, goal: str = "", ours: str = "ours") -> Row:
    """Make the row of two ways that `compare` measured, by their rates."""
    mine, other = found[ours], found.get(peer)
    if other is None:
        return Row(what, mine.middle, peer=peer, goal=goal, peak_mb=mine.peak_mb)
    times = ratio(mine.figures, other.figures)
    return Row(what, mine.middle, peer=peer, other=other.middle, ratio=times, goal=goal, peak_mb=mine.peak_mb)


if __name__ == "__main__":
    _launch(sys.argv[1:])
