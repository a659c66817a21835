"""Resize every labelled image into data/resized/<image_id>.png; goes on where it was stopped."""

from pathlib import Path

from biopsy.core.engine import open_engine
from biopsy.core.files import read_csv
from biopsy.core.layout import LABELS, ORIGINALS, RESIZED
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage
from biopsy.images.preparation.record import Preparation
from biopsy.images.resized_tree import resize_all


def resize(params: Params, *, labels_csv: Path, images_dir: Path, resized_dir: Path, resume_dir: Path) -> None:
    """Bring the resized tree up to date with the labels."""
    labels = read_csv(labels_csv, ["image_id", "path", "pixels_sha256"])
    preparation = Preparation(max_pixels=params.ingest.max_pixels, resize=params.resize)
    with open_engine(params.data.engine) as engine:
        counts = resize_all(labels, images_dir, resized_dir, resume_dir, preparation, engine)
    size, mode, structure = params.resize.size, params.resize.mode, params.resize.structure
    how = f"{preparation.views} tiles each" if mode == "tiles" else mode
    how = how if structure == "rgb" else f"{how}, {structure}"
    print(
        f"resize: {len(labels)} images at {size}x{size} ({how}): {counts['made']} made, {counts['kept']} kept, "
        f"{counts['removed']} stale removed."
    )


def main() -> None:
    """Run on the project's own paths."""
    resize(
        read_params(),
        labels_csv=LABELS,
        images_dir=ORIGINALS,
        resized_dir=RESIZED,
        resume_dir=Path("data/.resume"),
    )


if __name__ == "__main__":
    run_stage(main, "the images that are done are kept. Run `dvc repro` again to continue.")
