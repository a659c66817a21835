"""Normalise the stain of one protocol's images, or by default nothing: `python stages/stain.py --protocol case`."""

import shutil
from collections import Counter
from pathlib import Path

from biopsy.core.entries import stage_params
from biopsy.core.errors import some, warn
from biopsy.core.files import atomic_dir, read_csv, write_json
from biopsy.core.layout import LABELS, RESIZED, SPLITS, STAINED
from biopsy.core.outside import Outside, watch
from biopsy.core.params import Params
from biopsy.core.protocol import parse_protocol
from biopsy.core.stage import run_stage, stage_arguments
from biopsy.images.preparation.record import read_preparation, write_preparation
from biopsy.tables.split.folds import parts_of


def stain(params: Params, protocol: str, root: Path = Path()) -> None:
    """Write data/stained/<protocol>/, images and what was fitted, and its counts, below `root`."""
    stained, metrics = root / STAINED / protocol, root / "metrics" / f"stain-{protocol}.json"
    preparation = read_preparation(root / RESIZED)
    if params.stain.method == "none":
        with atomic_dir(stained) as new:
            write_preparation(new, preparation)
        write_json(metrics, {"method": "none"})
        shutil.rmtree(root / "data/.resume" / f"stained-{protocol}", ignore_errors=True)
        print(f"stain {protocol}: none")
        return
    from biopsy.images.stained_tree import stain_all

    folds = parse_protocol(protocol).folds
    split = root / SPLITS / f"{protocol}.csv"
    table = read_csv(split, ["image_id"] if folds else ["image_id", "part"])
    if not folds:
        parts = {"": table[["image_id", "part"]]}
    elif params.stain.reference:  # every image is tested, so no one of them may be the reference
        parts = {"": table[["image_id"]].assign(part="test")}
    else:
        parts = {fold.name: parts_of(table, fold, split) for fold in folds}
    labels = read_csv(root / LABELS, ["image_id"])
    tables = {
        name: found.merge(labels, on="image_id", validate="one_to_one").sort_values("image_id", ignore_index=True)
        for name, found in parts.items()
    }
    told, counts = stain_all(tables, root / RESIZED, stained, root / "data/.resume", params.stain, preparation)
    write_json(metrics, told)
    each, left = list(told.get("folds", {"": told}).values()), Counter[str]()
    for found in each:
        for part, why in found["kept_their_stain"].items():
            left.update({f"{reason} ({part})": n for reason, n in why.items()})
    if unfitted := [found for found in each if not found["fitted_on"]]:
        why = some([f"{n} {reason}" for reason, n in unfitted[0]["not_fitted_on"].items()])
        warn(
            f"stain {protocol}: {told['method']} found no training image to fit on ({why}), so images keep their "
            "colours. Are they stained tissue?"
        )
        if len(unfitted) == len(each):
            print(f"stain {protocol}: none")
            return
    of = "the mean of each fold's training images"
    if len(each) == 1:
        of = "the reference image" if told["reference"] else f"the mean of {told['fitted_on']} training images"
    normalised, images = (sum(found[key] for found in each) for key in ("normalised", "images"))
    print(
        f"stain {protocol}: {normalised} of {images} images brought to {of} by {told['method']}: "
        f"{counts['made']} made, {counts['kept']} kept; "
        f"with their own stain: {some([f'{n} {why}' for why, n in left.items()]) or 'none'}."
    )


def main() -> None:
    """Read parameters and arguments."""
    chosen = stage_arguments(__doc__, "protocol")
    params = stage_params()
    reference = params.stain.reference if params.stain.method != "none" else None
    with watch("stain", [Outside("stain.reference", Path(reference))] if reference else []):
        stain(params, chosen.protocol)


if __name__ == "__main__":
    run_stage(main, "the images that are done are kept. Run `dvc repro` again to continue.")
