"""An archive from anywhere is unpacked below its folder, or refused in a sentence; nothing else happens."""

import bz2
import gzip
import io
import lzma
import os
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath

import pytest

from biopsy.core.errors import SourceError
from biopsy.sources import archive as module
from biopsy.sources.archive import unpack

PIXELS = os.urandom(50_000)
LIMIT = 10**6


def plain(name: str, content: bytes = b"image") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def everything(path: PurePosixPath) -> PurePosixPath | str:
    return path


def images(path: PurePosixPath) -> PurePosixPath | str:
    return path if path.suffix == ".png" else "not an image"


unpack_all = partial(unpack, keep=everything, limit=LIMIT)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_regular_files_arrive_with_their_bytes(folder: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", special("a", tarfile.DIRTYPE), plain("a/2.png", PIXELS), plain("a/1 é.png"))
    kept, left_out = unpack_all(packed, folder)
    assert kept == ["a/1 é.png", "a/2.png"] == tree(folder)
    assert (folder / "a/2.png").read_bytes() == PIXELS
    assert not left_out


def test_what_is_left_out_is_counted_by_reason(folder: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain("a.png"), plain("README"), plain("b.txt"), plain("bell\a.png"))
    kept, left_out = unpack(packed, folder, images, LIMIT)
    assert kept == ["a.png"] == tree(folder)
    assert left_out == {"not an image": 2, "unprintable name": 1}


def test_modes_and_owners_of_the_archive_are_not_taken_over(folder: Path, tmp_path: Path) -> None:
    info, content = plain("a.png")
    info.mode, info.uid = 0o7777, 4242
    unpack_all(pack(tmp_path / "a.tar.gz", (info, content)), folder)
    status = (folder / "a.png").stat()
    assert status.st_mode & 0o7111 == 0
    assert status.st_uid == os.getuid()


@pytest.mark.parametrize("name", ["{tmp}/evil.png", "../evil.png", "a/../../evil.png", "a\\..\\evil.png", "/../x"])
def test_name_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain(name.replace("{tmp}", str(tmp_path))))
    with pytest.raises(SourceError, match=r"a name that leaves the folder.*unpack it yourself"):
        unpack_all(packed, folder)
    assert tree(tmp_path) == ["a.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "a.png"])
def test_link_is_refused(folder: Path, tmp_path: Path, kind: bytes, target: str) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain("a.png"), special("b.png", kind, target))
    with pytest.raises(SourceError, match=re.escape(f"holds a link, 'b.png' to {target!r}")):
        unpack_all(packed, folder)
    assert tree(folder) == ["a.png"]


def test_file_is_not_written_through_a_link(folder: Path, tmp_path: Path) -> None:
    """A link to a folder outside, then a file below it: the classic."""
    packed = pack(tmp_path / "a.tar.gz", special("d", tarfile.SYMTYPE, str(tmp_path)), plain("d/evil.png"))
    with pytest.raises(SourceError, match="holds a link"):
        unpack_all(packed, folder)
    assert not (tmp_path / "evil.png").exists()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_device_pipe_or_sparse_file_is_refused(folder: Path, tmp_path: Path, kind: bytes) -> None:
    packed = pack(tmp_path / "a.tar.gz", special("null.png", kind), form=tarfile.GNU_FORMAT)
    with pytest.raises(SourceError, match=r"holds a device, a pipe or a sparse file, 'null\.png'"):
        unpack_all(packed, folder)
    assert tree(folder) == []


def test_negative_size_is_refused(folder: Path, tmp_path: Path) -> None:
    info, _ = plain("a.png")
    info.size = -512
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header + bytes(10_240)))
    with pytest.raises(SourceError, match=r"a\.png' of -512 bytes|is damaged"):
        unpack_all(tmp_path / "a.tar.gz", folder)


def test_bomb_ends_at_the_limit(folder: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain("a.png"), plain("bomb.png", bytes(20 * LIMIT)))
    assert packed.stat().st_size < LIMIT / 20
    with pytest.raises(SourceError, match=r"more than 0\.001 GB\. Raise data\.breakhis\.max_gb"):
        unpack_all(packed, folder)
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= LIMIT


def test_bomb_in_a_file_that_is_left_out_ends_at_the_limit(folder: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain("bomb.txt", bytes(20 * LIMIT)))
    with pytest.raises(SourceError, match=r"Raise data\.breakhis\.max_gb"):
        unpack(packed, folder, images, LIMIT)


def test_bomb_behind_the_end_ends_at_the_limit(folder: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain("a.png"))
    packed.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes()) + bytes(20 * LIMIT)))
    with pytest.raises(SourceError, match=r"Raise data\.breakhis\.max_gb"):
        unpack_all(packed, folder, limit=10 * LIMIT)


def test_header_bomb_ends_at_a_few_megabytes(folder: Path, tmp_path: Path) -> None:
    """tarfile holds extended headers in memory: one of 50 MB must not get there."""
    info, content = plain("a.png")
    info.pax_headers = {"comment": "x" * 50_000_000}
    packed = pack(tmp_path / "a.tar.gz", (info, content))
    with pytest.raises(SourceError, match=r"a header of more than 4,194,304 bytes"):
        unpack_all(packed, folder, limit=10**9)


def test_crowd_of_members_ends_at_the_limit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMBERS", 10)
    packed = pack(tmp_path / "a.tar.gz", *(plain(f"{i}.png") for i in range(11)))
    with pytest.raises(SourceError, match="more than 10 members"):
        unpack_all(packed, folder)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "d/" * 600 + "a.png"])
def test_name_too_long_for_a_disk_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=rf"a name of {len(name)} characters"):
        unpack_all(pack(tmp_path / "a.tar.gz", plain(name)), folder)


@pytest.mark.parametrize("names", [("a.png", "a.png"), ("a.png", "a.png/b.png"), ("a/b.png", "a")])
def test_file_that_stands_twice_is_refused(folder: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(SourceError, match=f"holds '{names[1]}' twice"):
        unpack_all(pack(tmp_path / "a.tar.gz", *map(plain, names)), folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_archive_is_a_sentence(folder: Path, tmp_path: Path, share: float) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain("a.png", PIXELS), plain("b.png", PIXELS))
    whole = packed.read_bytes()
    packed.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SourceError, match=rf"{re.escape(str(packed))} is damaged, incomplete or no \.tar\.gz"):
        unpack_all(packed, folder)


def test_flipped_byte_is_noticed_by_the_checksum(folder: Path, tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", plain("a.png", PIXELS))
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(SourceError, match="is damaged"):
        unpack_all(packed, folder)


def test_checksum_at_the_very_end_is_compared(folder: Path, tmp_path: Path) -> None:
    """tarfile stops at the end mark, megabytes before gzip's checksum."""
    packed = pack(tmp_path / "a.tar.gz", plain("a.png", PIXELS))
    content = bytearray(gzip.compress(gzip.decompress(packed.read_bytes()) + bytes(5 * LIMIT)))
    content[-6] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(SourceError, match="is damaged"):
        unpack_all(packed, folder, limit=10 * LIMIT)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><p>Sign in</p>", gzip.compress(b"no tar" * 200)], ids=["html", "gzip"]
)
def test_something_else_named_tar_gz_is_a_sentence(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(SourceError, match=r"no \.tar\.gz.*Delete it and fetch it again"):
        unpack_all(tmp_path / "a.tar.gz", folder)


def joined(path: Path, packing: str) -> Path:
    """Two tar files of one image each, one behind the other, packed before they are joined and after."""
    parts = []
    for name in ("a.png", "b.png"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            info, content = plain(name, PIXELS)
            tar.addfile(info, io.BytesIO(content))
        parts.append(stream.getvalue())
    path.write_bytes(PACK[packing.removesuffix(" each")](b"".join(parts)) if "each" not in packing else
                     b"".join(PACK[packing.removesuffix(" each")](part) for part in parts))  # fmt: skip
    return path


PACK = {"none": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("packing", [*PACK, "gzip each", "bzip2 each", "xz each"])
def test_two_archives_joined_into_one_lose_no_half(folder: Path, tmp_path: Path, packing: str) -> None:
    kept, _ = unpack_all(joined(tmp_path / "any name", packing), folder)
    assert kept == ["a.png", "b.png"] == tree(folder)
    assert (folder / "b.png").read_bytes() == PIXELS


@pytest.mark.parametrize("packing", PACK)
def test_what_is_joined_to_an_archive_and_is_none_is_an_error(folder: Path, tmp_path: Path, packing: str) -> None:
    packed = joined(tmp_path / "a.tar", "none")
    packed.write_bytes(PACK[packing](packed.read_bytes() + b"no archive" * 100))
    with pytest.raises(SourceError, match="is damaged"):
        unpack_all(packed, folder)


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("cut", [1, 10, 40_000])
def test_an_archive_cut_anywhere_is_an_error_however_it_is_packed(
    folder: Path, tmp_path: Path, packing: str, cut: int
) -> None:
    """Plain tar has no checksum: a cut behind a whole member is told by the missing end mark."""
    packed = joined(tmp_path / "a.tar", packing)
    packed.write_bytes(packed.read_bytes()[: -cut if packing != "none" else -cut - 10_752])
    with pytest.raises(SourceError, match="is damaged"):
        unpack_all(packed, folder)


@pytest.mark.parametrize("cut", [10_752, 61_440 - 512])
def test_a_plain_tar_without_its_end_mark_or_with_a_damaged_header_is_an_error(
    folder: Path, tmp_path: Path, cut: int
) -> None:
    packed = joined(tmp_path / "a.tar", "none")
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-cut])
    with pytest.raises(SourceError, match="is damaged"):
        unpack_all(packed, folder)
    packed.write_bytes(b"\1" + whole[1:] if cut == 10_752 else whole[:61_440] + b"\1" + whole[61_441:])
    with pytest.raises(SourceError, match=r"is damaged|holds 'a\.png' twice"):
        unpack_all(packed, folder)


def zip_up(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_a_zip_arrives_with_its_bytes(folder: Path, tmp_path: Path) -> None:
    packed = zip_up(tmp_path / "a.zip", ("a/", b""), ("a/1 é.png", PIXELS), ("b.txt", b"text"))
    kept, left_out = unpack(packed, folder, images, LIMIT)
    assert kept == ["a/1 é.png"] == tree(folder)
    assert (folder / "a/1 é.png").read_bytes() == PIXELS
    assert left_out == {"not an image": 1}


def zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("b.png")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../evil.png", b"x")], "a name that leaves the folder"),
        ([("/evil.png", b"x")], "a name that leaves the folder"),
        ([("a\\..\\evil.png", b"x")], "a name that leaves the folder"),
        ([(zip_link(), b"/etc/passwd")], "holds a link, 'b.png'"),
        ([("a.png", b"x"), ("a.png/b.png", b"x")], "holds 'a.png/b.png' twice"),
        ([("a.png", bytes(2 * LIMIT))], r"Raise data\.breakhis\.max_gb"),
        ([(f"{i}.png", bytes(LIMIT // 2)) for i in range(3)], r"Raise data\.breakhis\.max_gb"),
        ([("x" * 300 + ".png", b"x")], "a name of 304 characters"),
    ],
)
def test_a_zip_is_held_to_the_same_rules(
    folder: Path, tmp_path: Path, members: list[tuple[str, bytes]], words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        unpack_all(zip_up(tmp_path / "a.zip", *members), folder)
    assert tree(tmp_path / "inside") in ([], ["a.png"], ["0.png", "1.png"])
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "inside"}


def test_a_damaged_crowded_locked_or_joined_zip_is_a_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = zip_up(tmp_path / "a.zip", ("a.png", PIXELS)).read_bytes()
    flipped = bytearray(whole)
    flipped[1000] ^= 0xFF
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.index(b"PK\1\2") + 8] |= 1
    other = zip_up(tmp_path / "b.zip", ("b.png", PIXELS)).read_bytes()
    for content, words in {
        whole[:-30]: "is damaged",
        bytes(flipped): "is damaged",
        bytes(locked): "password required",
        whole + other: "several .zip files joined",
    }.items():
        (tmp_path / "c.zip").write_bytes(content)
        with pytest.raises(SourceError, match=words):
            unpack_all(tmp_path / "c.zip", folder)
        (folder / "a.png").unlink(missing_ok=True)
    monkeypatch.setattr(module, "MEMBERS", 1)
    with pytest.raises(SourceError, match="more than 1 members"):
        unpack_all(zip_up(tmp_path / "d.zip", ("a.png", b"x"), ("b.png", b"x")), folder)


@pytest.mark.parametrize("magic", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\7", b"\x28\xb5\x2f\xfd"])
def test_another_kind_of_archive_is_told_which_kinds_are_read(folder: Path, tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(magic + bytes(1000))
    with pytest.raises(SourceError, match=r"not read; \.tar\.gz, \.tar, \.tar\.bz2, \.tar\.xz or \.zip is"):
        unpack_all(tmp_path / "a.bin", folder)


def test_an_xz_file_that_asks_for_gigabytes_of_memory_does_not_get_them(folder: Path, tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "preset": 0}]
    packed = joined(tmp_path / "a.tar", "none").read_bytes()
    header = lzma.compress(packed, filters=[filters[0] | {"dict_size": 1 << 20}])
    # Compressing with such a dictionary would itself take gigabytes: its size is one byte of the block's header.
    small, large = bytes([0x21, 1, 16]), bytes([0x21, 1, 36])
    edited = bytearray(header.replace(small, large, 1))
    size = (edited[12] + 1) * 4
    edited[12 + size - 4 : 12 + size] = zlib.crc32(edited[12 : 12 + size - 4]).to_bytes(4, "little")
    (tmp_path / "b.tar.xz").write_bytes(edited)
    with pytest.raises(SourceError, match="Memory usage limit"):
        unpack_all(tmp_path / "b.tar.xz", folder)


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """256 MB unpacked, in files of 64 MB, cost less than 32 MB."""
    packed = tmp_path / "a.tar.gz"
    with gzip.open(packed, "wb", compresslevel=1) as zipped, tarfile.open(fileobj=zipped, mode="w|") as tar:
        for i in range(4):
            info, content = plain(f"{i}.png", bytes(1 << 26))
            tar.addfile(info, io.BytesIO(content))
    code = """
import resource, sys
from pathlib import Path
from biopsy.sources.archive import unpack
Path("out").mkdir()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unpack(Path("a.tar.gz"), Path("out"), lambda path: path, 10**9)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 32
