"""The command `biopsy`: one function per verb, which imports what it needs when it runs, so that `--help` is quick."""

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from biopsy.core.errors import DataError, ParamsError, run

COMPARED = ("macro_f1", "roc_auc", "balanced_accuracy", "accuracy", "sensitivity", "specificity")


def main() -> None:
    """Run the command line; a user's error is one sentence."""
    run(command, "nothing was changed.")


def command(arguments: Sequence[str] | None = None) -> None:
    """Parse `arguments` (default: those of the process) and do what they ask."""
    parser = argparse.ArgumentParser(prog="biopsy", description="Commands beside the pipeline, which `dvc repro` runs.")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    added = (
        _list, _predict, _evaluate, _explain, _export, _publish, _serve, _results, _report, _compare, _experiments,
        _convert_weights, _info, _show_augment, _tune, _queue, _launch,
    )  # fmt: skip
    for add in added:
        add(verbs)
    chosen = parser.parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text of the screen's encoding
    chosen.run(chosen)


def _verb(verbs: Any, name: str, words: str, *examples: str) -> argparse.ArgumentParser:
    """Add a verb whose help ends with examples."""
    shown = "\n".join(["examples:", *(f"  {example}" for example in examples)])
    added: argparse.ArgumentParser = verbs.add_parser(
        name, help=words, epilog=shown, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return added


def _list(verbs: Any) -> None:
    """Add `biopsy list`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.listing import list_kinds

        for line in list_kinds(chosen.kind, chosen.root):
            print(line, flush=True)

    verb = _verb(
        verbs, "list", "say what backbones, encoders, augmentations, presets and models there are",
        "biopsy list models",
        "biopsy list presets | grep -i stain",
    )  # fmt: skip
    kinds = ("backbones", "encoders", "augmentations", "presets", "models")
    verb.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=f"{', '.join(kinds)} (default: all)")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--model", type=Path, metavar="MODEL", help="a folder or .onnx file (default: the only one)")


def _figures_of(path: Path) -> dict[str, Any] | None:
    """Find the test figures of a model's folder; half a second, which those who do not ask need not spend."""
    from biopsy.experiments.model_info import figures_of

    return figures_of(path)


def _predict(verbs: Any) -> None:
    """Add `biopsy predict`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.images.slides.find import find_slides
        from biopsy.serving.predict import predict_files

        if slides := find_slides(chosen.inputs):
            from biopsy.core.extras import extra

            with extra("slides"):
                from biopsy.serving.slides.run import Options, predict_slides

            if chosen.by:
                raise ParamsError("--by is for images of which a table gives the case or slide, not for whole slides.")
            predict_slides(slides, Options(chosen.model, chosen.out, chosen.mpp, chosen.tile_mpp))
            return
        if chosen.mpp or chosen.tile_mpp:
            raise ParamsError("--mpp and --tile-mpp are for whole slides, and the inputs name none.")
        failed = predict_files(chosen.inputs, chosen.model, chosen.out, chosen.by, _figures_of)
        if failed:
            why = "The column 'without_prediction' counts them." if chosen.by else "The column 'error' says why."
            raise DataError(f"{failed} of the images have no prediction. {why}")

    verb = _verb(
        verbs, "predict", "predict images with a trained model; research use only",
        "biopsy predict images/ --model exports/binary-case.onnx --out predictions.csv",
        "biopsy predict images.csv --by case",
        "biopsy predict slide.svs --out results/",
    )  # fmt: skip
    verb.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="image files, folders, patterns such as 'a/**/*.png', a .zip, a .csv with the columns path and, if known, "
        "case and slide, or - for a list of paths; or whole slides (.svs, .ndpi, .mrxs, .tif, ...)",
    )  # fmt: skip
    _add_model(verb)
    verb.add_argument(
        "--by", choices=("case", "slide"), help="one row for each: the mean probability over its images, as in the test"
    )
    verb.add_argument(
        "--out", type=Path, metavar="PATH",
        help=".csv, .json or .jsonl (default: CSV on the screen); for slides, a folder",
    )  # fmt: skip
    verb.add_argument("--mpp", type=float, metavar="UM", help="micrometres per pixel of a slide whose file lacks them")
    verb.add_argument("--tile-mpp", type=float, metavar="UM", help="those of its tiles (default: as in training)")
    verb.set_defaults(run=act)


def _evaluate(verbs: Any) -> None:
    """Add `biopsy evaluate`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.external import Asked, evaluate_elsewhere
        from biopsy.serving.predict import only_model

        asked = Asked(chosen.csv, chosen.images, chosen.label, chosen.map)
        left = evaluate_elsewhere(chosen.model or only_model(), asked, chosen.out, _figures_of)
        if left:
            rows = "row has" if left == 1 else "rows have"
            raise DataError(f"{left:,} {rows} no prediction. The column 'error' of predictions.csv says why.")

    verb = _verb(
        verbs, "evaluate", "test a model on labelled images of elsewhere; research use only",
        "biopsy evaluate --model exports/binary-case.onnx --csv labels.csv --images photos/ --out external/",
        "biopsy evaluate --csv labels.csv --label diagnosis --map cancer=malignant --map healthy=benign",
    )  # fmt: skip
    _add_model(verb)
    verb.add_argument(
        "--csv", type=Path, required=True, metavar="FILE",
        help="columns path and label and, if known, case, slide and magnification",
    )  # fmt: skip
    verb.add_argument("--images", type=Path, metavar="FOLDER", help="where the images are (default: beside the CSV)")
    verb.add_argument("--label", metavar="COLUMN", help="the column of labels (default: that of the model's data)")
    verb.add_argument("--map", action="append", default=[], metavar="WORD=CLASS", help="what a label means; repeatable")
    verb.add_argument("--out", type=Path, default=Path("external"), metavar="FOLDER", help="default: external/")
    verb.set_defaults(run=act)


def _explain(verbs: Any) -> None:
    """Add `biopsy explain`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.explain_files import explain_files

        failed = explain_files(chosen.inputs, chosen.model, chosen.out, chosen.method)
        if failed:
            raise DataError(f"{failed} of the images have no explanation. The lines above say why.")

    verb = _verb(
        verbs, "explain", "draw where a model looks in images; research use only",
        "biopsy explain images/ --model exports/binary-case.onnx",
        "biopsy explain 'slides/**/*.png' --out looks/",
    )  # fmt: skip
    verb.add_argument(
        "inputs", nargs="+", metavar="IMAGE", help="image files, folders, patterns, a .csv with a column path, or -"
    )
    _add_model(verb)
    verb.add_argument("--out", type=Path, default=Path("explanations"), metavar="FOLDER", help="default: explanations/")
    verb.add_argument(
        "--method", choices=("occlusion", "activation"), default="occlusion",
        help="hide places (default, checked), or ask an .onnx file for its own map (one pass, not checked)",
    )  # fmt: skip
    verb.set_defaults(run=act)


def _export(verbs: Any) -> None:
    """Add `biopsy export`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.model_info import known_of
        from biopsy.serving.export import export_model

        first, alone = chosen.model[0], len(chosen.model) == 1 and (chosen.model[0] / "model.json").is_file()
        about = known_of(first) if alone else None
        path, difference = export_model(chosen.model, chosen.out, about=about, kept=chosen.similar, int8=chosen.int8)
        print(f"wrote {path}; its probabilities differ from those of Keras by at most {difference:.1e}")
        if not alone:
            from biopsy.serving.model import describe
            from biopsy.serving.onnx_file import open_file

            print(describe(open_file(path)[2]))

    verb = verbs.add_parser("export", help="write a model as one .onnx file, which needs no TensorFlow")
    verb.add_argument(
        "model", type=Path, nargs="+", metavar="FOLDER",
        help="a model's folder, such as models/binary-case; of folds, or of several (seeds), the mean of all",
    )  # fmt: skip
    verb.add_argument("--out", type=Path, metavar="FILE", help="default: exports/<name>.onnx")
    verb.add_argument(
        "--int8", nargs="?", type=float, const=0.02, metavar="LOSS",
        help="in 8-bit integers; fails where a validation figure loses more than LOSS (default: 0.02)",
    )  # fmt: skip
    verb.add_argument(
        "--similar", choices=("names", "pictures", "none"), default="names",
        help="what the file tells of the training images most like one: names (default), also small pictures, or none",
    )  # fmt: skip
    verb.set_defaults(run=act)


def _publish(verbs: Any) -> None:
    """Add `biopsy publish`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.predict import only_model
        from biopsy.serving.publish import publish

        for line in publish(chosen.model or only_model(), chosen.target, chosen.card, chosen.yes):
            print(line)

    verb = _verb(
        verbs, "publish", "write a folder for others: model card, .onnx file, metadata, example",
        "biopsy publish shared/ --model exports/binary-case.onnx          say what would be written",
        "biopsy publish shared/ --model exports/binary-case.onnx --yes",
    )  # fmt: skip
    verb.add_argument("target", metavar="FOLDER", help="new, empty, or published before")
    _add_model(verb)
    verb.add_argument("--card", type=Path, metavar="FILE", help="default: plots/cards/<task>-<protocol>.md")
    verb.add_argument("--yes", action="store_true", help="write; without it nothing is written")
    verb.set_defaults(run=act)


def _serve(verbs: Any) -> None:
    """Add `biopsy serve`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.serve import serve

        serve(chosen.model, chosen.host, chosen.port, chosen.token or os.environ.get("BIOPSY_TOKEN"), _figures_of)

    verb = _verb(
        verbs, "serve", "open a page and an API that predict images; research use only",
        "biopsy serve --model exports/binary-case.onnx",
        "BIOPSY_TOKEN=... biopsy serve --host 0.0.0.0 --port 80",
    )  # fmt: skip
    verb.add_argument(
        "--model", type=Path, action="append", default=[], metavar="MODEL",
        help="a folder or .onnx file; again for more (default: all in models/, else in exports/)",
    )  # fmt: skip
    verb.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine alone")
    verb.add_argument("--port", type=int, default=8000, help="default: 8000")
    verb.add_argument("--token", help="what clients must send; needed for other hosts (default: $BIOPSY_TOKEN)")
    verb.set_defaults(run=act)


def _results(verbs: Any) -> None:
    """Add `biopsy results`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.results import describe_results

        print(describe_results(chosen.root))

    verb = verbs.add_parser("results", help="print a table of the test results")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _report(verbs: Any) -> None:
    """Add `biopsy report`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.core.files import atomic_file
        from biopsy.experiments.revisions import find_revision

        shown = find_revision(chosen.revision, chosen.root)
        if chosen.compare is None:
            from biopsy.experiments.printed import print_report

            page, says = print_report(shown, chosen.explain)
        else:
            from biopsy.experiments.beside import side_by_side

            page, says = side_by_side(find_revision(chosen.compare, chosen.root), shown)
        with atomic_file(chosen.out) as new:
            new.write_text(page, "utf-8")
        print("\n".join([*says, f"wrote {chosen.out}"]))

    verb = _verb(
        verbs, "report", "write the report with the git revision it is of, or two runs side by side",
        "biopsy report v1.0 --out report-v1.html",
        "biopsy report --explain",
        "biopsy report --compare main",
    )  # fmt: skip
    verb.add_argument(
        "revision", nargs="?", default="workspace", metavar="REVISION",
        help="a git revision or an experiment (default: workspace, the files as they are)",
    )  # fmt: skip
    added = verb.add_mutually_exclusive_group()
    added.add_argument("--compare", metavar="REVISION", help="is the run better than this one?")
    added.add_argument("--explain", action="store_true", help="add where its models look; takes minutes")
    verb.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _compare(verbs: Any) -> None:
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
                new.write_text(as_markdown(results, names), "utf-8")
        if any(result.worse for result in results):
            raise SystemExit(WORSE)

    verb = verbs.add_parser(
        "compare",
        help="say whether one run is better than another; exit code 1 where the second is shown to be worse",
        description="Compare two runs on the same cases: validation predictions, or all folds of a cross-validation. "
        "Exit code: 0 no difference or the second is better, 1 the second is worse, 2 and above an error.",
    )
    verb.add_argument("first", help="a git revision, an experiment, or `workspace`; several seeds: a,b,c")
    verb.add_argument("second", help="the same; is this one better?")
    verb.add_argument("--task", help="default: all that both have")
    verb.add_argument("--protocol", help="default: all that both have")
    verb.add_argument("--figure", choices=COMPARED, default=COMPARED[0], help=f"default: {COMPARED[0]}")
    verb.add_argument("--test", action="store_true", help="the test part: once, for the run that validation chose")
    verb.add_argument("--json", type=Path, metavar="FILE", help="also write everything for a program")
    verb.add_argument("--markdown", type=Path, metavar="FILE", help="also write a table for a pull request")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _experiments(verbs: Any) -> None:
    """Add `biopsy experiments`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.page import experiments_page, read_preset, write_heads
        from biopsy.experiments.runs import shown_runs

        presets = {path.stem: read_preset(path) for path in sorted((chosen.root / "conf/experiment").glob("*.yaml"))}
        runs = shown_runs(chosen.root)
        print(experiments_page(runs, presets, chosen.about), end="")
        if chosen.plot:
            from biopsy.experiments.page_plot import plot_experiments

            plot_experiments(runs, chosen.plot)
        if chosen.heads:
            write_heads(chosen.heads, runs)

    verb = verbs.add_parser("experiments", help="write a page that compares all experiments that DVC keeps")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.add_argument("--about", default="", help="a sentence on which images these are")
    verb.add_argument("--plot", type=Path, metavar="PNG", help="also draw them, one dot a seed")
    verb.add_argument("--heads", type=Path, metavar="FOLDER", help="also write the figures into these presets' heads")
    verb.set_defaults(run=act)


def _convert_weights(verbs: Any) -> None:
    """Add `biopsy convert-weights`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.networks.convert import convert_weights

        print(convert_weights(chosen.checkpoint, chosen.out, chosen.architecture))

    verb = verbs.add_parser("convert-weights", help="make a Keras weights file of a PyTorch checkpoint")
    verb.add_argument("checkpoint", type=Path, help="a state dict (.pth, .pt, .tar) or a .safetensors file")
    verb.add_argument("out", type=Path, help="the file to write, <name>.weights.h5")
    verb.add_argument(
        "--architecture", required=True, metavar="NAME", help="resnet34, resnet50, densenet121 or mobilenet_v2"
    )
    verb.set_defaults(run=act)


def _info(verbs: Any) -> None:
    """Add `biopsy info`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.model_info import describe_model

        print(describe_model(chosen.model, chosen.root))

    verb = verbs.add_parser("info", help="say what a model is, where it comes from and how well it did")
    verb.add_argument("model", type=Path, metavar="FOLDER", help="a model's folder, such as models/binary-case")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _show_augment(verbs: Any) -> None:
    """Add `biopsy show-augment`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.show_augment import show_augment

        path, notes = show_augment(
            chosen.experiment, chosen.set, task=chosen.task, images=chosen.images, out=chosen.out, root=chosen.root
        )
        print("; ".join([f"wrote {path}", *notes]))

    verb = verbs.add_parser("show-augment", help="draw what an experiment's augmentation makes of an image")
    verb.add_argument("experiment", nargs="?", help="a file of conf/experiment/ (default: the parameters in force)")
    verb.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run`")
    verb.add_argument("--task", help="whose minority is doubled (default: the last of `tasks`)")
    verb.add_argument(
        "--images", type=Path, help="a folder of PNGs (default: data/resized, else the originals or a drawn sample)"
    )
    verb.add_argument("--out", type=Path, help="the PNG to write (default: plots/augment-<experiment>.png)")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _tune(verbs: Any) -> None:
    """Add `biopsy tune`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.tuning import tune

        tune(chosen.experiment, chosen.task, chosen.protocol, chosen.trials, tuple(chosen.set))

    verb = verbs.add_parser("tune", help="search good parameters for an experiment, by its validation figures")
    verb.add_argument("experiment", help="a preset of conf/experiment/")
    verb.add_argument("--task", help="default: the first of `tasks`")
    verb.add_argument("--protocol", default="case", help="default: case")
    verb.add_argument("--trials", type=int, help="how many in all, earlier ones counted (default: tune.trials)")
    verb.add_argument("-S", dest="set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run`")
    verb.set_defaults(run=act)


def _queue(verbs: Any) -> None:
    """Add `biopsy queue`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.core.engine import open_engine
        from biopsy.experiments.queue import plan, run_queue

        tasks = plan(chosen.set, chosen.root)
        with open_engine("ray", chosen.ray or None, chosen.cpus, chosen.gpus) as engine:
            run_queue(tasks, engine, chosen.root)

    verb = _verb(
        verbs, "queue", "run many experiments on a Ray cluster; on one machine `dvc exp run --queue` does without",
        "biopsy queue --ray -S '+experiment=adopt,mixup' -S seed=0,1,2",
        "biopsy queue --ray ray://head:10001 --gpus 1 -S 'protocols=[case-1of5],[case-2of5]'",
    )  # fmt: skip
    verb.add_argument(
        "--ray", nargs="?", const="", required=True, metavar="ADDRESS",
        help="the cluster (default: $RAY_ADDRESS, else one that runs here, else a new one of this machine)",
    )  # fmt: skip
    verb.add_argument(
        "-S", dest="set", action="append", default=[], metavar="KEY=VALUE", help="as `dvc exp run --queue`"
    )
    verb.add_argument("--cpus", type=float, default=1, metavar="N", help="for each experiment (default: 1)")
    verb.add_argument("--gpus", type=float, default=0, metavar="N", help="for each experiment (default: 0)")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.set_defaults(run=act)


def _launch(verbs: Any) -> None:
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

    verb = _verb(
        verbs, "launch", "write the job file that runs an experiment on a rented or shared machine",
        "biopsy launch --render sky --gpu A100 --out job.yaml -- dvc exp run -S data=breakhis",
        "biopsy launch --render slurm --gpu 1 --hours 8 | sbatch",
        "biopsy launch --render k8s -- dvc exp run -n adopt -S +experiment=adopt | kubectl create -f -",
    )  # fmt: skip
    verb.add_argument("--render", choices=("sky", "slurm", "k8s"), required=True, help="SkyPilot, Slurm or Kubernetes")
    verb.add_argument(
        "--gpu", metavar="MODEL[:N]", help="such as A100 or A100:2; not for sky: a number (default: none)"
    )
    verb.add_argument("--hours", type=int, default=24, help="the job's time limit, not for sky (default: 24)")
    verb.add_argument("--revision", default="HEAD", help="what to run, pushed to origin (default: HEAD)")
    verb.add_argument("--out", type=Path, metavar="FILE", help="default: on the screen")
    verb.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- dvc exp run ...", help="default: no options")
    verb.set_defaults(run=act)


if __name__ == "__main__":
    main()
