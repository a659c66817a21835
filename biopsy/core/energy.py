"""The energy that this machine's processors use, where the kernel lets us read it (RAPL, /sys/class/powercap)."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

POWERCAP = Path("/sys/class/powercap")
EVERY = 30.0  # seconds between two readings: at full load a counter overflows after minutes, so none is missed


@dataclass
class _Zone:
    """The counter of one processor, in microjoules; it starts again at `most`."""

    path: Path
    most: int
    last: int = 0
    used: int = 0

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return a processor's counter; None where a folder is not a processor's, or may not be read."""
        try:
            if not (folder / "name").read_text().startswith("package"):  # cores and memory are parts of it
                return None
            zone = cls(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
            zone.last = int(zone.path.read_text())
        except (OSError, ValueError):
            return None
        return zone

    def look(self) -> None:
        now = int(self.path.read_text())
        self.used += now - self.last + (self.most if now < self.last else 0)
        self.last = now


class Energy:
    """Counts from the moment it is made, other programs on the machine included.

    Parameters
    ----------
    folder
        Where the kernel shows the counters.
    every
        Seconds between two readings.
    """

    def __init__(self, folder: Path = POWERCAP, every: float = EVERY) -> None:
        found = (_Zone.open(path) for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1)
        self._zones = [zone for zone in found if zone]  # AMD's processors have this name, too
        self._lock, self._every = threading.Lock(), every
        if self._zones:
            threading.Thread(target=self._watch, name="count energy", daemon=True).start()

    def joules(self) -> float | None:
        """Return what was used so far; None where that cannot be measured."""
        with self._lock:
            try:
                for zone in self._zones:
                    zone.look()
            except (OSError, ValueError):
                self._zones = []
            return sum(zone.used for zone in self._zones) / 1e6 if self._zones else None

    def _watch(self) -> None:
        while self.joules() is not None:
            time.sleep(self._every)
