"""Which files of a tree are whole, so that a stopped run continues where it was."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from biopsy.core.files import atomic_file


class Entry(NamedTuple):
    """What the journal knows of one image: what it depends on, the SHA-256 of its file, and a note of its maker."""

    key: str
    sha256: str
    note: str = ""


@dataclass(frozen=True)
class Journal:
    """Which files are whole: one JSON line per file, appended after its rename; survives SIGKILL at any moment.

    Attributes
    ----------
    path
        The file; one journal is used by one process.
    entries
        By image_id.
    """

    path: Path
    entries: dict[str, Entry]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Read a journal, or start one; a torn or foreign line counts as absent."""
        path.parent.mkdir(parents=True, exist_ok=True)
        entries: dict[str, Entry] = {}
        with path.open("ab+") as stream:
            stream.seek(0)
            content = stream.read()
            if content and not content.endswith(b"\n"):
                stream.write(b"\n")  # else the next line would be lost with the torn one
        for line in content.splitlines():
            try:
                told = json.loads(line)
                entries[str(told["image_id"])] = Entry(str(told["key"]), str(told["sha256"]), str(told.get("note", "")))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return cls(path, entries)

    def add(self, image_id: str, entry: Entry) -> None:
        """Append one line, from any thread."""
        with self._lock, self.path.open("ab") as stream:
            stream.write(_line(image_id, entry))
            self.entries[image_id] = entry

    def keep_only(self, image_ids: set[str]) -> None:
        """Forget other images and outdated lines."""
        lines = [_line(image_id, entry) for image_id, entry in self.entries.items() if image_id in image_ids]
        with atomic_file(self.path) as temporary:
            temporary.write_bytes(b"".join(lines))


def _line(image_id: str, entry: Entry) -> bytes:
    told = {"image_id": image_id, "key": entry.key, "sha256": entry.sha256}
    return (json.dumps(told | ({"note": entry.note} if entry.note else {})) + "\n").encode()
