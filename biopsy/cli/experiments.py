"""`biopsy compare`, `experiments`, `tune`, `queue`, `launch`: the verbs of many runs."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from biopsy.cli.verb import Changes, Root, examples, new_verbs

verbs = new_verbs()

Figure = Literal["macro_f1", "roc_auc", "balanced_accuracy", "accuracy", "sensitivity", "specificity"]


@verbs.command(
    epilog=examples(
        "biopsy compare main workspace",
        "biopsy compare adopt-0,adopt-1 mixup-0,mixup-1 --markdown verdict.md",
    )
)
def compare(
    first: Annotated[str, Argument(help="a git revision, an experiment, or `workspace`; several seeds: a,b,c")],
    second: Annotated[str, Argument(help="the same; the run that may be better")],
    task: Annotated[str | None, Option(metavar="NAME", help="default: all that both have")] = None,
    protocol: Annotated[str | None, Option(metavar="NAME", help="default: all that both have")] = None,
    figure: Annotated[Figure, Option(metavar="NAME", help=", ".join(Figure.__args__))] = "macro_f1",
    test: Annotated[bool, Option("--test", help="use the test set: once, for the run that validation chose")] = False,
    json: Annotated[Path | None, Option(metavar="FILE", help="also write the results as JSON")] = None,
    markdown: Annotated[Path | None, Option(metavar="FILE", help="also write a table for a pull request")] = None,
    root: Root = Path(),
) -> None:
    """Say whether one run is better than another.

    Both are compared on the same cases: validation predictions, or all folds of a cross-validation. Exit code: 0 no
    difference or the second is better, 1 the second is worse, 2 and above an error.
    """
    from biopsy.core.files import atomic_file, write_json
    from biopsy.experiments import compare as comparing

    names = (first, second)
    results = comparing.compare(names, figure, task, protocol, test, root)
    print(comparing.as_text(results), flush=True)
    if json:
        write_json(json, comparing.as_data(results, names))
    if markdown:
        with atomic_file(markdown) as new:
            new.write_text(comparing.as_markdown(results, names), "utf-8", "backslashreplace")
    if any(result.worse for result in results):
        raise SystemExit(comparing.WORSE)


@verbs.command(
    epilog=examples(
        "biopsy experiments > experiments.md",
        "biopsy experiments --about 'Of 421 images.' --plot experiments.png",
    )
)
def experiments(
    about: Annotated[str, Option(metavar="SENTENCE", help="about the images", show_default=False)] = "",
    plot: Annotated[Path | None, Option(metavar="PNG", help="also draw them, one dot per seed")] = None,
    heads: Annotated[
        Path | None, Option(metavar="FOLDER", help="also write the figures into the comments of these presets")
    ] = None,
    root: Root = Path(),
) -> None:
    """Print a Markdown page that compares experiments."""
    from biopsy.experiments.page import experiments_page, read_preset, write_heads
    from biopsy.experiments.runs import shown_runs

    files = sorted((root / "conf/experiment").glob("[!.]*.yaml"))
    presets = {path.stem: read_preset(path) for path in files}
    runs = shown_runs(root)
    print(experiments_page(runs, presets, about), end="")
    if plot:
        from biopsy.experiments.page_plot import plot_experiments

        plot_experiments(runs, plot)
    if heads:
        write_heads(heads, runs)


@verbs.command(
    epilog=examples(
        "biopsy tune adopt --trials 20",
        "biopsy tune adopt --task multiclass -S data=breakhis",
    )
)
def tune(
    experiment: Annotated[str, Argument(help="a preset of conf/experiment/")],
    *,
    changes: Changes,
    task: Annotated[str | None, Option(metavar="NAME", help="default: the first of `tasks`")] = None,
    protocol: Annotated[str, Option(metavar="NAME")] = "case",
    trials: Annotated[
        int | None, Option(metavar="N", help="how many in total, earlier ones included (default: tune.trials)")
    ] = None,
) -> None:
    """Search for good parameters, by validation figures."""
    from biopsy.experiments import tuning

    tuning.tune(experiment, task, protocol, trials, tuple(changes))


@verbs.command(
    epilog=examples(
        "biopsy queue -S '+experiment=adopt,mixup' -S seed=0,1,2",
        "biopsy queue --address ray://head:10001 --gpus 1 -S 'protocols=[case-1of5],[case-2of5]'",
    )
)
def queue(
    *,
    changes: Changes,
    address: Annotated[
        str | None, Option(help="of the cluster (default: $RAY_ADDRESS, else one on this machine, started if needed)")
    ] = None,
    cpus: Annotated[float, Option(metavar="N", help="for each experiment")] = 1,
    gpus: Annotated[float, Option(metavar="N", help="for each experiment")] = 0,
    root: Root = Path(),
) -> None:
    """Run experiments on a Ray cluster.

    On one machine `dvc exp run --queue` does the same.
    """
    from biopsy.core.engine import open_engine
    from biopsy.experiments.queue import plan, run_queue

    tasks = plan(changes, root)
    with open_engine("ray", address, cpus, gpus) as engine:
        run_queue(tasks, engine, root)


@verbs.command(
    context_settings={"allow_interspersed_args": False},  # what follows `dvc exp run` are its own options
    epilog=examples(
        "biopsy launch --render sky --gpu A100 --out job.yaml -- dvc exp run -S data=breakhis",
        "biopsy launch --render slurm --gpu 1 --hours 8 | sbatch",
        "biopsy launch --render k8s -- dvc exp run -n adopt -S +experiment=adopt | kubectl create -f -",
    ),
)
def launch(
    *,
    render: Annotated[Literal["sky", "slurm", "k8s"], Option(help="SkyPilot, Slurm or Kubernetes")],
    command: Annotated[
        list[str],
        Argument(metavar="-- dvc exp run", help="default: no options", default_factory=list, show_default=False),
    ],
    gpu: Annotated[
        str | None,
        Option(metavar="MODEL[:N]", help="sky: such as A100 or A100:2; slurm, k8s: a number (default: none)"),
    ] = None,
    hours: Annotated[int, Option(metavar="N", help="the time limit, slurm and k8s only")] = 24,
    revision: Annotated[str, Option(metavar="REVISION", help="the commit to run, which must be pushed")] = "HEAD",
    out: Annotated[Path | None, Option(metavar="FILE", help="default: on the screen")] = None,
    root: Root = Path(),
) -> None:
    """Print a job file that runs an experiment elsewhere."""
    from biopsy.core.files import atomic_file
    from biopsy.experiments.launch import Machine, render_job

    job = render_job(Machine(render, gpu, hours), command, revision, root)
    if out is None:
        print(job, end="")
        return
    with atomic_file(out) as new:
        new.write_text(job, "utf-8")
    print(f"wrote {out}; its first lines say how to submit it")
