"""Claim: what predicts installs in under a fifth of the pipeline's space and answers in under 2 seconds.

    python benchmarks/light_install.py exports/binary-case.onnx image.png        1 minute and a package index

Run it in the pipeline's environment. It makes another one in a temporary folder, installs the extra there, and in both
measures the packages (pip and setuptools, which every environment has, do not count) and the best of five cold starts.
"""

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from measure import ROOT, Row, options, parse, tell

OWN = ("pip", "setuptools", "pkg_resources", "_distutils_hack")


def megabytes(python: Path) -> tuple[float, float]:
    """The packages with the bytecode that pip makes of them, and without."""
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    files = [path for top in site.iterdir() if top.name not in OWN for path in (top, *top.rglob("*"))]
    sizes = [(path.suffix == ".pyc", path.stat().st_size) for path in files if path.is_file()]
    return sum(size for _, size in sizes) / 1e6, sum(size for made, size in sizes if not made) / 1e6


def seconds(*command: str | Path) -> float:
    """The best of five runs; the first, which reads the disk, is not one of them."""
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("model", type=Path, help="an .onnx file of `biopsy export`")
    parser.add_argument("image", type=Path)
    parser.add_argument("--extra", default="predict")
    given = parse(parser)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        light = Path(folder) / "bin/python"
        subprocess.run([light, "-m", "pip", "install", "-q", f"{ROOT}[{given.extra}]"], check=True)
        pythons = {f"extra {given.extra}": light, "pipeline": Path(sys.executable)}
        sizes = []
        for name, python in pythons.items():
            full, bare = megabytes(python)
            sizes.append(full)
            bare_start, start = seconds(python, "-c", "pass"), seconds(python, "-c", "import biopsy")
            answer = seconds(python, "-m", "biopsy.cli", "predict", given.image, "--model", given.model)
            print(
                f"{name}: {full:,.0f} MB ({bare:,.0f} without bytecode); import biopsy {start - bare_start:.3f} s; "
                f"help {seconds(python, '-m', 'biopsy.cli', '--help'):.2f} s; predict {answer:.2f} s",
                flush=True,
            )
            tell(Row(f"`predict`, {name}", answer, "s", goal="<=2"))
            if python is light:
                tell(Row(f"extra {given.extra}, without bytecode", bare, "MB", goal="<=400"))
    tell(Row(f"extra {given.extra}", sizes[0], "MB", "pipeline", sizes[1], sizes[1] / sizes[0], ">=5"))


if __name__ == "__main__":
    main()
