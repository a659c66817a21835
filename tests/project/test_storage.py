"""docs/storage.md, command by command."""

from pathlib import Path

from scratch import call, clone
from walkthrough import follow


def test_the_page_cleans_up_what_nothing_uses_and_finds_what_is_damaged(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path)
    stray = project / ".dvc/cache/files/md5/d3/b07384d113edec49eaa6238ad5ff00"  # of "foo\n"
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("foo\n")
    check = (
        "find . -type f ! -name '.*' -exec md5sum {} + | sed 's|\\./||; s|/||; s|\\.dir$||' | awk '$1 != $2 {print $2}'"
    )
    assert follow("storage.md", project)[check] == ""
    assert not stray.exists()
    victim = next(path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file())
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(content + b"x")
    printed = call(project / ".dvc/cache/files/md5", "bash", "-c", check).stdout.split()
    assert printed == [(victim.parent.name + victim.name).removesuffix(".dir")]
