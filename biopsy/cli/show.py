"""`biopsy list`, `info`, `results`, `report`, `show-augment`, `completion`: the verbs that show what there is."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from biopsy.cli.verb import add_root, model_path, new_verb


def add_list(verbs: Any) -> None:
    """Add `biopsy list`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.listing import list_kinds

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in list_kinds(chosen.kind, chosen.root, width):
            print(line, flush=True)

    verb = new_verb(
        verbs, "list", "list backbones, encoders, augmentations, presets and models",
        "biopsy list models",
        "biopsy list presets | grep -i stain",
    )  # fmt: skip
    kinds = ("backbones", "encoders", "augmentations", "presets", "models")
    verb.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=f"{', '.join(kinds)} (default: all)")
    add_root(verb)
    verb.set_defaults(run=act)


def add_info(verbs: Any) -> None:
    """Add `biopsy info`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.model_info import describe_model

        print(describe_model(chosen.model, chosen.root))

    verb = new_verb(
        verbs, "info", "describe a model: its origin, parameters and test figures",
        "biopsy info models/binary-case",
        "biopsy info exports/binary-case.onnx",
        "biopsy info models/binary-case --root ../other-clone",
    )  # fmt: skip
    verb.add_argument(
        "model", type=model_path, metavar="MODEL",
        help="a model's folder or .onnx file, here or in a repository: REPO@REVISION:PATH",
    )  # fmt: skip
    add_root(verb)
    verb.set_defaults(run=act)


def add_results(verbs: Any) -> None:
    """Add `biopsy results`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.results import describe_results

        print(describe_results(chosen.root))

    verb = new_verb(
        verbs, "results", "print a table of the test results",
        "biopsy results",
        "biopsy results --root ../other-clone",
    )  # fmt: skip
    add_root(verb)
    verb.set_defaults(run=act)


def add_report(verbs: Any) -> None:
    """Add `biopsy report`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.core.files import atomic_file
        from biopsy.experiments.revisions import find_revision

        shown = find_revision(chosen.revision, chosen.root)
        if chosen.compare is None:
            from biopsy.experiments.print_report import print_report

            page, says = print_report(shown, chosen.explain)
        else:
            from biopsy.experiments.compare_page import side_by_side

            page, says = side_by_side(find_revision(chosen.compare, chosen.root), shown)
        with atomic_file(chosen.out) as new:
            new.write_text(page, "utf-8", "backslashreplace")
        print("\n".join([*says, f"wrote {chosen.out}"]))

    verb = new_verb(
        verbs, "report", "write the report of a git revision, or of two runs side by side",
        "biopsy report v1.0 --out report-v1.html",
        "biopsy report --explain",
        "biopsy report --compare main",
    )  # fmt: skip
    verb.add_argument(
        "revision", nargs="?", default="workspace", metavar="REVISION",
        help="a git revision or an experiment (default: workspace, the files as they are)",
    )  # fmt: skip
    added = verb.add_mutually_exclusive_group()
    added.add_argument("--compare", metavar="REVISION", help="compare with this run")
    added.add_argument("--explain", action="store_true", help="add maps of what matters to its models; takes minutes")
    verb.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    add_root(verb)
    verb.set_defaults(run=act)


def add_show_augment(verbs: Any) -> None:
    """Add `biopsy show-augment`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.show_augment import show_augment

        path, notes = show_augment(
            chosen.experiment, chosen.set, task=chosen.task, images=chosen.images, out=chosen.out, root=chosen.root
        )
        print("; ".join([f"wrote {path}", *notes]))

    verb = new_verb(
        verbs, "show-augment", "draw what an experiment's augmentation does to an image",
        "biopsy show-augment medaugment",
        "biopsy show-augment -S augment=erasing --images data/resized --out erasing.png",
    )  # fmt: skip
    verb.add_argument("experiment", nargs="?", help="a file of conf/experiment/ (default: the parameters in force)")
    verb.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run`")
    verb.add_argument("--task", help="whose minority is doubled (default: the last of `tasks`)")
    verb.add_argument(
        "--images", type=Path, help="a folder of PNGs (default: data/resized, else the originals or a drawn sample)"
    )
    verb.add_argument("--out", type=Path, help="the PNG to write (default: plots/augment-<experiment>.png)")
    add_root(verb)
    verb.set_defaults(run=act)


def add_completion(verbs: Any) -> None:
    """Add `biopsy completion`."""

    def act(chosen: argparse.Namespace) -> None:
        import shtab

        from biopsy.cli import new_parser

        print(shtab.complete(new_parser(), chosen.shell))

    verb = new_verb(
        verbs, "completion", "print a script that makes a shell complete `biopsy` commands",
        "biopsy completion bash > ~/.local/share/bash-completion/completions/biopsy",
        "biopsy completion zsh > ~/.zfunc/_biopsy",
    )  # fmt: skip
    verb.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    verb.set_defaults(run=act)
