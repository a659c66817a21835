"""`biopsy list`, `info`, `results`, `report`, `show-augment`: the verbs that show what there is."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from biopsy.cli.verb import MODEL, Changes, Root, examples, model_path, new_verbs
from biopsy.core.errors import ParamsError

verbs = new_verbs()


@verbs.command("list", epilog=examples("biopsy list models", "biopsy list presets | grep -i stain"))
def list_all(
    kind: Annotated[
        Literal["backbones", "encoders", "augmentations", "presets", "models"] | None, Argument(help="default: all")
    ] = None,
    root: Root = Path(),
) -> None:
    """List models, presets, backbones and what else there is."""
    from biopsy.experiments.listing import list_kinds

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in list_kinds(kind, root, width):
        print(line, flush=True)


@verbs.command(
    epilog=examples(
        "biopsy info models/binary-case",
        "biopsy info exports/binary-case",
        "biopsy info models/binary-case --root ../other-clone",
    )
)
def info(model: Annotated[str, Argument(help=MODEL)], root: Root = Path()) -> None:
    """Describe a model: origin, parameters, test figures."""
    from biopsy.experiments.model_info import describe_model

    print(describe_model(model_path(model), root))


@verbs.command(epilog=examples("biopsy results", "biopsy results --root ../other-clone"))
def results(root: Root = Path()) -> None:
    """Print a table of the test results."""
    from biopsy.experiments.results import describe_results

    print(describe_results(root))


@verbs.command(
    epilog=examples(
        "biopsy report v1.0 --out report-v1.html",
        "biopsy report --explain",
        "biopsy report --compare main",
    )
)
def report(
    revision: Annotated[
        str, Argument(help="a git revision, an experiment, or workspace: the files as they are")
    ] = "workspace",
    compare: Annotated[str | None, Option(metavar="REVISION", help="compare with this run")] = None,
    explain: Annotated[bool, Option("--explain", help="add maps of what matters to its models; takes minutes")] = False,
    out: Annotated[Path, Option(metavar="FILE")] = Path("report.html"),
    root: Root = Path(),
) -> None:
    """Write the report of a run, or of two side by side."""
    from biopsy.core.files import atomic_file
    from biopsy.experiments.revisions import find_revision

    if compare is not None and explain:
        raise ParamsError("--explain is for the report of one run. Leave --explain or --compare out.")
    shown = find_revision(revision, root)
    if compare is None:
        from biopsy.experiments.print_report import print_report

        page, says = print_report(shown, explain)
    else:
        from biopsy.experiments.compare_page import side_by_side

        page, says = side_by_side(find_revision(compare, root), shown)
    with atomic_file(out) as new:
        new.write_text(page, "utf-8", "backslashreplace")
    print("\n".join([*says, f"wrote {out}"]))


@verbs.command(
    epilog=examples(
        "biopsy show-augment medaugment",
        "biopsy show-augment -S augment=erasing --images data/resized --out erasing.png",
    )
)
def show_augment(
    experiment: Annotated[
        str | None, Argument(help="a file of conf/experiment/ (default: the parameters in force)")
    ] = None,
    *,
    changes: Changes,
    task: Annotated[
        str | None, Option(metavar="NAME", help="whose minority is doubled (default: the last of `tasks`)")
    ] = None,
    images: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="of PNGs (default: data/resized, else the originals or a drawn sample)"),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="the PNG to write (default: plots/augment-<experiment>.png)")
    ] = None,
    root: Root = Path(),
) -> None:
    """Draw what augmentation does to an image."""
    from biopsy.experiments import show_augment as showing

    path, notes = showing.show_augment(experiment, changes, task=task, images=images, out=out, root=root)
    print("; ".join([f"wrote {path}", *notes]))
