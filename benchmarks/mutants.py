"""Break ten promises on purpose, one at a time, and see a test fail: `python benchmarks/mutants.py [name ...]`.

Each mutant is one edit of the code that must not go unnoticed. The project is copied, the copy is edited, and the
tests that guard the promise run on it. The table says which edits were caught; the exit code is 1 where one was not.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutant(NamedTuple):
    """One edit: the promise that it breaks, the file, its text before and after, and the tests that guard it."""

    name: str
    promise: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "interval", "an interval covers 95 %, not 50 %", "biopsy/evaluation/intervals.py",
        "(1 + level) / 2)) ** 2", "0.75)) ** 2", ("tests/evaluation/test_intervals.py",),
    ),
    Mutant(
        "threshold", "evaluate uses the threshold of the card", "biopsy/evaluation/outcome.py",
        "self.probabilities[:, 1] >= self.threshold", "self.probabilities[:, 1] >= 0.5",
        ("tests/evaluation/test_evaluation.py", "tests/stages/test_evaluate_stage.py"),
    ),
    Mutant(
        "patience", "early stopping has the patience of the parameters", "biopsy/training/fit.py",
        "patience = epochs if train.early_stopping_patience is None else train.early_stopping_patience",
        "patience = 5", ("tests/training/test_training.py",),
    ),
    Mutant(
        "validation", "no test image validates", "biopsy/training/train_model.py",
        'np.append(rows["train"], rows["val"])', 'np.append(rows["train"], rows["test"])',
        ("tests/stages/test_train_stage.py",),
    ),
    Mutant(
        "weights", "rare classes are weighted", "biopsy/training/fit.py",
        'if train.class_weights == "none":', "if True:", ("tests/training/test_training.py",),
    ),
    Mutant(
        "pixels", "equal pixels stay on one side of a split", "biopsy/tables/split/splits.py",
        'by_pixels = pd.factorize(table["pixels_sha256"])[0]', 'by_pixels = pd.factorize(table["image_id"])[0]',
        ("tests/tables/test_splits.py",),
    ),
    Mutant(
        "conflict", "equal pixels under two labels are left out", "biopsy/tables/duplicates.py",
        'return dict.fromkeys(lost, "conflict") | dict.fromkeys(extra, "duplicate"), counts',
        'return dict.fromkeys(extra, "duplicate"), counts', ("tests/tables/test_audit.py",),
    ),
    Mutant(
        "hash", "a model's bytes are checked before it loads", "biopsy/networks/model_file.py",
        "if sha256(path) != card.model_sha256:", "if False:", ("tests/networks/test_models.py",),
    ),
    Mutant(
        "preparation", "evaluate rejects a model of another preparation", "biopsy/evaluation/answers.py",
        "if card.preparation != preparation:", "if False:", ("tests/stages/test_evaluate_stage.py",),
    ),
    Mutant(
        "copies", "minority copies come from the training part alone", "biopsy/training/inputs/loader.py",
        "np.flatnonzero(targets != np.bincount(targets).argmax())", "np.arange(len(targets) + 1)",
        ("tests/training/test_loader.py",),
    ),
)  # fmt: skip


def caught(mutant: Mutant, copy: Path) -> bool:
    """Edit the copy, run the guards, undo the edit; say whether a test failed."""
    path = copy / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.before) != 1:
        raise SystemExit(f"{mutant.name}: {mutant.file} holds {text.count(mutant.before)} times: {mutant.before}")
    path.write_text(text.replace(mutant.before, mutant.after), "utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *mutant.tests]
        done = subprocess.run(command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True)
    finally:
        path.write_text(text, "utf-8")
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutant.name}: pytest ended with {done.returncode}: {done.stdout.decode()[-500:]}")
    return done.returncode == 1


def main() -> None:
    """Print a row a mutant; exit with 1 where one went unnoticed."""
    chosen = [mutant for mutant in MUTANTS if mutant.name in sys.argv[1:] or not sys.argv[1:]]
    missed = 0
    print("| mutant | promise | caught | s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in tracked.splitlines():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        for mutant in chosen:
            started = time.monotonic()
            found = caught(mutant, copy)
            missed += not found
            print(
                f"| {mutant.name} | {mutant.promise} | {'yes' if found else 'NO'} | {time.monotonic() - started:.0f} |"
            )
            sys.stdout.flush()
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
