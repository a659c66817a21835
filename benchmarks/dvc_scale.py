"""Claim: with 8,000 images a `dvc repro` that has nothing to do and a `dvc status` take less than 3 seconds each.

    python benchmarks/dvc_scale.py                   8,000 files of 130 KB, 1 GB, five times on the disk; 100,000 of 2
    python benchmarks/dvc_scale.py --files 500 --shards 2000     a quick look

A stage that copies a folder of random bytes, under DVC, once as many files and once as one file of the same size; each
command in a process of its own, in a scratch repository with this project's `cache.type` and `verify`. `grow` says how
much the cache and the remote gain with ten more experiments, each of which changes `--changed` KB of its outputs.
Then `dvc add` and what follows it for a folder of `--shards` files of 2 KB, single and in tars, in CPU seconds.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from biopsy.core.shards import files_of, place_of, read_file, write_shard
from measure import ROOT, Row, Run, options, parse, tell, timed

SMALL = 2  # KB of a file that is also packed into tars
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
STAGE = """stages:
  make:
    cmd: python make.py
    deps: [source]
    outs: [tree: {persist: true}]
  train:
    cmd: python train.py
    params: [number]
    deps: [tree]
    outs: [model: {persist: true}]
"""
MAKE = "import shutil\nshutil.copytree('source', 'tree', dirs_exist_ok=True)\n"
TRAIN = (
    "import pathlib, random, yaml\nn = yaml.safe_load(open('params.yaml'))['number']\n"
    "pathlib.Path('model').unlink(missing_ok=True)\n"
    "pathlib.Path('model').write_bytes(random.Random(n).randbytes({changed} * 1000))\n"
)


def call(root: Path, *command: str) -> None:
    """Run a command to its end."""
    done = subprocess.run(command, cwd=root, env={**os.environ, "PATH": PATH}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def project(base: Path, files: int, kilobytes: int, changed: int) -> Path:
    """Make a repository whose `source` holds so many files of random bytes."""
    root = base / "project"
    (root / "source").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(files):
        (root / "source" / f"{number:07}.png").write_bytes(rng.bytes(kilobytes * 1000))
    for name, text in (("dvc.yaml", STAGE), ("make.py", MAKE), ("train.py", TRAIN.format(changed=changed))):
        (root / name).write_text(text)
    (root / "params.yaml").write_text("number: 0\n")
    call(root, "git", "init", "-q")
    call(root, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    return root


def size(folder: Path) -> float:
    """Return the MB below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def measure(files: int, kilobytes: int, changed: int) -> tuple[dict[str, Run], list[float]]:
    """Return what each command took, and the MB of cache and remote before and after ten experiments."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        root = project(base, files, kilobytes, changed)

        def dvc(command: str) -> Run:
            return timed(sys.executable, "-m", "dvc", command, cwd=root, PATH=PATH)

        taken = {"first dvc repro": dvc("repro"), "dvc repro, nothing to do": dvc("repro")}
        taken |= {f"dvc {command}": dvc(command) for command in ("status", "push")}
        cache, remote = root / ".dvc/cache", base / "biopsy-remote"
        sizes = [size(cache), size(remote)]
        for number in range(1, 11):
            (root / "params.yaml").write_text(f"number: {number}\n")
            call(root, "dvc", "repro")
            call(root, "dvc", "push")
        sizes += [size(cache), size(remote)]
        shutil.rmtree(cache)
        shutil.rmtree(root / "tree")
        taken["dvc pull"] = dvc("pull")
        return taken, sizes


def write_tars(folder: Path, files: int, kilobytes: int, shard: int) -> None:
    """Write so many files of random bytes in archives of `shard` files each."""
    rng, archives = np.random.default_rng(0), -(-files // shard)
    members: dict[Path, list[Path]] = {}
    for number in range(files):
        place = place_of(f"{number:07}", archives)
        members.setdefault(place.parent, []).append(Path(place.name))
    for archive, names in members.items():
        write_shard(folder / archive, ((name, rng.bytes(kilobytes * 1000)) for name in names))


def measure_folder(files: int, shard: int) -> dict[str, Run]:
    """Return what each command took for one tracked folder of small files; `shard` 0: single ones."""
    with tempfile.TemporaryDirectory() as name:
        root = project(Path(name), 0 if shard else files, SMALL, 0)
        (root / "dvc.yaml").unlink()
        source = root / "source"
        if shard:
            write_tars(source, files, SMALL, shard)

        def dvc(*words: str) -> Run:
            return timed(sys.executable, "-m", "dvc", *words, cwd=root)

        taken = {"dvc add": dvc("add", "source"), "dvc status": dvc("status"), "dvc push": dvc("push")}
        one = min(source.iterdir())
        content = one.read_bytes()
        one.unlink()  # a hard link into the cache
        one.write_bytes(content[:-1] + b"x")
        taken["dvc add, one changed"] = dvc("add", "source")
        taken["dvc push, one changed"] = dvc("push")
        shutil.rmtree(root / ".dvc/cache")
        shutil.rmtree(source)
        taken["dvc pull"] = dvc("pull")
        reading = f"import dvc_scale, pathlib; dvc_scale.read_all(pathlib.Path({str(source)!r}), {files})"
        taken["an epoch's reading"] = timed(sys.executable, "-c", reading, cwd=ROOT / "benchmarks")
        return taken


def read_all(source: Path, files: int) -> None:
    """Read every image once, as an epoch's first reading does."""
    for path in files_of(source, (f"{number:07}" for number in range(files))):
        read_file(path)


def shard_rows(single: dict[str, Run], packed: dict[str, Run]) -> list[Row]:
    """Make the rows of tars beside single files."""
    return [
        Row(
            f"{name}, tars", packed[name].processor, "s", "files", run.processor,
            run.processor / packed[name].processor, peak_mb=packed[name].peak_mb,
        )
        for name, run in single.items()
    ]  # fmt: skip


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=8000)
    parser.add_argument("--kilobytes", type=int, default=130, help="of each file")
    parser.add_argument("--changed", type=int, default=500, help="KB of outputs that an experiment changes")
    parser.add_argument("--shards", type=int, default=100_000, help="small files, single and in tars")
    parser.add_argument("--shard", type=int, default=1000, help="files in a tar")
    chosen = parse(parser, files=500, shards=2000)
    many, sizes = measure(chosen.files, chosen.kilobytes, chosen.changed)
    one, _ = measure(1, chosen.files * chosen.kilobytes, chosen.changed)
    print(f"{chosen.files} files of {chosen.kilobytes} KB; seconds\n")
    print(f"{'':28}{'many files':>12}{'one file':>12}{'ratio':>8}")
    for name, run in many.items():
        seconds, other = run.seconds, one[name].seconds
        print(f"{name:28}{seconds:12.2f}{other:12.2f}{seconds / other:7.1f}x")
        if name in ("dvc repro, nothing to do", "dvc status"):
            tell(Row(f"{name}, {chosen.files:,}", seconds, "s", "one file", other, goal="<=3", peak_mb=run.peak_mb))
    single, packed = (measure_folder(chosen.shards, shard) for shard in (0, chosen.shard))
    tell(*shard_rows(single, packed))
    print(f"ten experiments: cache {sizes[0]:.0f} -> {sizes[2]:.0f} MB, remote {sizes[1]:.0f} -> {sizes[3]:.0f} MB")


if __name__ == "__main__":
    main()
