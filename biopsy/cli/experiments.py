"""`biopsy compare`, `experiments`, `tune`, `queue`, `launch`: the verbs of many runs."""

import argparse
from pathlib import Path
from typing import Any

from biopsy.cli.verb import add_root, new_verb

COMPARED = ("macro_f1", "roc_auc", "balanced_accuracy", "accuracy", "sensitivity", "specificity")


def add_compare(verbs: Any) -> None:
    """Add `biopsy compare`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.core.files import atomic_file, write_json
        from biopsy.experiments.compare import WORSE, as_data, as_markdown, as_text, compare

        names = (chosen.first, chosen.second)
        results = compare(names, chosen.figure, chosen.task, chosen.protocol, chosen.test, chosen.root)
        print(as_text(results), flush=True)
        if chosen.json:
            write_json(chosen.json, as_data(results, names))
        if chosen.markdown:
            with atomic_file(chosen.markdown) as new:
                new.write_text(as_markdown(results, names), "utf-8", "backslashreplace")
        if any(result.worse for result in results):
            raise SystemExit(WORSE)

    verb = new_verb(
        verbs, "compare", "say whether one run is better than another; exit code 1: the second is worse",
        "biopsy compare main workspace",
        "biopsy compare adopt-0,adopt-1 mixup-0,mixup-1 --markdown verdict.md",
    )  # fmt: skip
    verb.description = (
        "Compare two runs on the same cases: validation predictions, or all folds of a cross-validation.\n"
        "Exit code: 0 no difference or the second is better, 1 the second is worse, 2 and above an error."
    )
    verb.add_argument("first", help="a git revision, an experiment, or `workspace`; several seeds: a,b,c")
    verb.add_argument("second", help="the same; the run that may be better")
    verb.add_argument("--task", help="default: all that both have")
    verb.add_argument("--protocol", help="default: all that both have")
    verb.add_argument("--figure", choices=COMPARED, default=COMPARED[0], help=f"default: {COMPARED[0]}")
    verb.add_argument("--test", action="store_true", help="use the test set: once, for the run that validation chose")
    verb.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    verb.add_argument("--markdown", type=Path, metavar="FILE", help="also write a table for a pull request")
    add_root(verb)
    verb.set_defaults(run=act)


def add_experiments(verbs: Any) -> None:
    """Add `biopsy experiments`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.page import experiments_page, read_preset, write_heads
        from biopsy.experiments.runs import shown_runs

        files = sorted((chosen.root / "conf/experiment").glob("[!.]*.yaml"))
        presets = {path.stem: read_preset(path) for path in files}
        runs = shown_runs(chosen.root)
        print(experiments_page(runs, presets, chosen.about), end="")
        if chosen.plot:
            from biopsy.experiments.page_plot import plot_experiments

            plot_experiments(runs, chosen.plot)
        if chosen.heads:
            write_heads(chosen.heads, runs)

    verb = new_verb(
        verbs, "experiments", "print a Markdown page that compares all DVC experiments",
        "biopsy experiments > experiments.md",
        "biopsy experiments --about 'Of 421 images.' --plot experiments.png",
    )  # fmt: skip
    add_root(verb)
    verb.add_argument("--about", default="", help="a sentence about the images")
    verb.add_argument("--plot", type=Path, metavar="PNG", help="also draw them, one dot per seed")
    verb.add_argument(
        "--heads", type=Path, metavar="FOLDER", help="also write the figures into the comments of these presets"
    )
    verb.set_defaults(run=act)


def add_tune(verbs: Any) -> None:
    """Add `biopsy tune`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.tuning import tune

        tune(chosen.experiment, chosen.task, chosen.protocol, chosen.trials, tuple(chosen.set))

    verb = new_verb(
        verbs, "tune", "search for good parameters, by validation figures",
        "biopsy tune adopt --trials 20",
        "biopsy tune adopt --task multiclass -S data=breakhis",
    )  # fmt: skip
    verb.add_argument("experiment", help="a preset of conf/experiment/")
    verb.add_argument("--task", help="default: the first of `tasks`")
    verb.add_argument("--protocol", default="case", help="default: case")
    verb.add_argument("--trials", type=int, help="how many in total, earlier ones included (default: tune.trials)")
    verb.add_argument("-S", dest="set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run`")
    verb.set_defaults(run=act)


def add_queue(verbs: Any) -> None:
    """Add `biopsy queue`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.core.engine import open_engine
        from biopsy.experiments.queue import plan, run_queue

        tasks = plan(chosen.set, chosen.root)
        with open_engine("ray", chosen.ray or None, chosen.cpus, chosen.gpus) as engine:
            run_queue(tasks, engine, chosen.root)

    verb = new_verb(
        verbs, "queue", "run experiments on a Ray cluster (on one machine: `dvc exp run --queue`)",
        "biopsy queue --ray -S '+experiment=adopt,mixup' -S seed=0,1,2",
        "biopsy queue --ray ray://head:10001 --gpus 1 -S 'protocols=[case-1of5],[case-2of5]'",
    )  # fmt: skip
    verb.add_argument(
        "--ray", nargs="?", const="", required=True, metavar="ADDRESS",
        help="the cluster (default: $RAY_ADDRESS, else one on this machine, started if needed)",
    )  # fmt: skip
    verb.add_argument(
        "-S", dest="set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run --queue`"
    )
    verb.add_argument("--cpus", type=float, default=1, metavar="N", help="for each experiment (default: 1)")
    verb.add_argument("--gpus", type=float, default=0, metavar="N", help="for each experiment (default: 0)")
    add_root(verb)
    verb.set_defaults(run=act)


def add_launch(verbs: Any) -> None:
    """Add `biopsy launch`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.core.files import atomic_file
        from biopsy.experiments.launch import Machine, render_job

        command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
        machine = Machine(chosen.render, chosen.gpu, chosen.hours)
        job = render_job(machine, command, chosen.revision, chosen.root)
        if chosen.out is None:
            print(job, end="")
            return
        with atomic_file(chosen.out) as new:
            new.write_text(job, "utf-8")
        print(f"wrote {chosen.out}; its first lines say how to submit it")

    verb = new_verb(
        verbs, "launch", "print a job file that runs an experiment on another machine",
        "biopsy launch --render sky --gpu A100 --out job.yaml -- dvc exp run -S data=breakhis",
        "biopsy launch --render slurm --gpu 1 --hours 8 | sbatch",
        "biopsy launch --render k8s -- dvc exp run -n adopt -S +experiment=adopt | kubectl create -f -",
    )  # fmt: skip
    verb.add_argument("--render", choices=("sky", "slurm", "k8s"), required=True, help="SkyPilot, Slurm or Kubernetes")
    verb.add_argument(
        "--gpu", metavar="MODEL[:N]", help="sky: such as A100 or A100:2; slurm, k8s: a number (default: none)"
    )
    verb.add_argument("--hours", type=int, default=24, help="the time limit, slurm and k8s only (default: 24)")
    verb.add_argument("--revision", default="HEAD", help="the commit to run, which must be pushed (default: HEAD)")
    verb.add_argument("--out", type=Path, metavar="FILE", help="default: on the screen")
    add_root(verb)
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- dvc exp run ...", help="default: no options")
    verb.set_defaults(run=act)
