"""Resize every labelled image into data/resized/<image_id>.png, count small ones; a rerun continues a stopped one."""

from pathlib import Path

from biopsy.core.engine import open_engine
from biopsy.core.entries import stage_params
from biopsy.core.files import atomic_file, read_csv, write_json
from biopsy.core.layout import LABELS, ORIGINALS, RESIZED
from biopsy.core.params import Params
from biopsy.core.stage import run_stage
from biopsy.images.preparation.record import Preparation, suited
from biopsy.images.resized_tree import resize_all


def resize(
    params: Params, *, labels_csv: Path, images_dir: Path, resized_dir: Path, resume_dir: Path, metrics_json: Path
) -> None:
    """Bring the resized tree up to date with the labels."""
    labels = read_csv(labels_csv, ["image_id", "path", "pixels_sha256", "width", "height"])
    sides = labels[["width", "height"]].astype(int)
    how, px = suited(params.resize, sides.to_numpy().ravel().tolist()), params.resize.tiles.px
    preparation = Preparation(max_pixels=params.ingest.max_pixels, min_size=params.ingest.min_size, resize=how)
    with open_engine(params.data.engine) as engine:
        counts = resize_all(labels, images_dir, resized_dir, resume_dir, preparation, engine)
    small = int((sides.min(axis=1) < px).sum()) if params.resize.mode == "tiles" else 0
    told = {"images": len(labels), "mode": how.mode, "views": preparation.views, "smaller_than_a_tile": small}
    with atomic_file(metrics_json) as metrics:
        write_json(metrics, told)
    if how != params.resize:
        print(f"resize: no image is longer than a tile of {px} px (resize.tiles.px): each is stretched to one square.")
    elif small:
        print(
            f"resize: {small} images have a side shorter than a tile of {px} px (resize.tiles.px): their tiles are as "
            "large as that side."
        )
    size, mode, structure = how.size, how.mode, how.structure
    how_said = f"{preparation.views} tiles each" if mode == "tiles" else mode
    how_said = how_said if structure == "rgb" else f"{how_said}, {structure}"
    print(
        f"resize: {len(labels)} images at {size}x{size} ({how_said}): {counts['made']} made, {counts['kept']} kept, "
        f"{counts['removed']} stale removed."
    )


def main() -> None:
    """Run on the project's own paths."""
    resize(
        stage_params(),
        labels_csv=LABELS,
        images_dir=ORIGINALS,
        resized_dir=RESIZED,
        resume_dir=Path("data/.resume"),
        metrics_json=Path("metrics/resize.json"),
    )


if __name__ == "__main__":
    run_stage(main, "the images that are done are kept. Run `dvc repro` again to continue.")
