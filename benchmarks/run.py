"""Run the benchmarks, one process each, and write their table into docs/benchmarks.md.

    python benchmarks/run.py                     `make bench`: each script with --quick
    python benchmarks/run.py --full              `make bench-full`: each script as it stands
    python benchmarks/run.py resize startup      these alone; other lines of the table stay

Leave the machine alone meanwhile. Lines of scripts that did not run stay where they are of the same machine and
versions. A model for `slides`, `serve_load` and `light_install` is the first of exports/ or --model.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from biopsy.core.cost import processor_name
from biopsy.serving.finding import exported_models
from measure import ROOT, Row, options

PAGE = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEAD = "|script|what|ours|other|times|goal|MB|met|\n|-|-|-|-|-|-|-|-|"
LIBRARIES = ("tensorflow", "keras", "numpy", "onnxruntime", "dvc", "torch")
# Which a quick run has, too.
SCRIPTS = {
    "startup": True,
    "resize": True,
    "stain": True,
    "loading": True,
    "augment": True,
    "step": True,
    "inference": True,
    "growth": True,
    "dvc_scale": False,
    "features": False,
    "slides": False,
    "serve_load": False,
    "light_install": False,
}
NEEDS = {"slides": "{model}", "serve_load": "{model} {folder} {images}", "light_install": "{model} {image}"}
SECONDS = {False: 300, True: 3600}  # that a script may take


def machine() -> str:
    """Say what was measured on: the processor, its cores, the versions."""
    found = [f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return f"{processor_name()}, {os.cpu_count()} cores; {', '.join(found)}"


def write_table(page: str, lines: dict[str, list[str]], on: str, today: str) -> str:
    """Put lines by script into a page, between the markers.

    Parameters
    ----------
    page
        The page as it is.
    lines
        By script, those measured now.
    on
        The machine and the versions; lines of another one go.
    today
        The date.

    Returns
    -------
    str
        The page; scripts are in the order of `SCRIPTS`.
    """
    before, begin, rest = page.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"error: {PAGE.name} lacks {BEGIN} and {END}. Put them where the table goes.")
    kept: dict[str, list[str]] = {}
    if on in old:
        for line in old.splitlines():
            if line.startswith("|`"):
                kept.setdefault(line.split("`")[1], []).append(line)
    kept |= {name: [f"|`{name}`|{line}|" for line in told] for name, told in lines.items() if told}
    table = [line for name in SCRIPTS for line in kept.get(name, [])]
    body = "\n".join([f"{today}, {on}.", "", HEAD, *table])
    return f"{before}{BEGIN}\n{body}\n{END}{after}"


def arguments(name: str, chosen: Namespace) -> list[str] | str:
    """Return what a script is called with, or why it cannot be."""
    needed = NEEDS.get(name, "")
    if needed and not chosen.model:
        return "needs an exported model: `biopsy export models/binary-case`, or --model"
    given = {"model": chosen.model, "folder": chosen.folder, "images": chosen.images}
    given["image"] = next(iter(sorted(Path(chosen.images).rglob("*.png"))), None) if "{image}" in needed else None
    if missing := [
        key for key, value in given.items() if f"{{{key}}}" in needed and not (value and Path(value).exists())
    ]:
        return f"needs --{missing[0]}, which does not exist"
    return [word.format(**given) for word in needed.split()]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("scripts", nargs="*", choices=[*SCRIPTS, []], metavar="SCRIPT", help=", ".join(SCRIPTS))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rows, one JSON object a script")
    exported = exported_models(ROOT)
    parser.add_argument("--model", type=Path, default=exported[0] if exported else None, help="an .onnx file")
    parser.add_argument("--folder", type=Path, default=ROOT / "models/binary-case", help="the same model of Keras")
    parser.add_argument("--images", type=Path, default=ROOT / "data/raw/images", help="a folder of PNGs")
    chosen = parser.parse_args()
    names = chosen.scripts or [name for name, quick in SCRIPTS.items() if chosen.full or quick]
    lines: dict[str, list[str]] = {}
    told: dict[str, list[dict[str, object]]] = {}
    failed, begun = [], time.perf_counter()
    for name in names:
        given = arguments(name, chosen)
        if isinstance(given, str):
            print(f"== {name}: left out; {given}", flush=True)
            continue
        start = time.perf_counter()
        print(f"== {name}", flush=True)
        rows = run_script(name, [*given, *([] if chosen.full else ["--quick"])], SECONDS[chosen.full])
        told[name], lines[name] = [vars(row) for row in rows], [row.line() for row in rows]
        failed += [] if rows else [name]
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
        PAGE.write_text(write_table(PAGE.read_text("utf-8"), lines, machine(), date.today().isoformat()), "utf-8")
    if chosen.json:
        chosen.json.write_text(json.dumps({"on": machine(), "rows": told}, indent=1) + "\n")
    print(f"wrote {PAGE.relative_to(ROOT)} in {time.perf_counter() - begun:.0f} s")
    if failed:
        sys.exit(f"error: no figures from {', '.join(failed)}; the lines above say why.")


def run_script(name: str, given: list[str], seconds: float) -> list[Row]:
    """Run one script; what it told until its end or its time was up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.touch()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "BENCHMARK_ROWS": str(path)}
        try:
            subprocess.run([sys.executable, ROOT / f"benchmarks/{name}.py", *given], env=environment, timeout=seconds)
        except subprocess.TimeoutExpired:
            print(f"{name}: stopped after {seconds:.0f} s", file=sys.stderr)
        return [Row(**json.loads(line)) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
