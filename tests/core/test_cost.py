"""What a run cost is measured, kept beside the outputs, and found again by the report that names its models."""

from pathlib import Path

import pytest

from biopsy.core.cost import COSTS, Meter, costs_of, read_costs
from biopsy.core.energy import Energy


def counter(folder: Path, microjoules: int, name: str = "package-0") -> None:
    """Write what the kernel shows of a processor."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in {"name": name, "max_energy_range_uj": "10000000", "energy_uj": str(microjoules)}.items():
        whole = folder.parent / file  # the watching thread never finds half a file: the kernel's are not written either
        whole.write_text(f"{text}\n")
        whole.replace(folder / file)


def test_a_run_is_noted_and_the_latest_of_a_report_s_models_is_found(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    sum(i * i for i in range(2_000_000))
    made = meter.end("train", "binary-case", ["aa"])
    assert 0.02 < made.cpu_seconds < 60
    assert made.seconds < 60
    assert made.peak_mb > 10
    meter.end("evaluate", "binary-case", ["aa"])
    latest = meter.end("train", "binary-case", ["aa"], ["H100"], resumed=True)
    meter.end("train", "other", ["aa", "bb"])
    found = costs_of("<td>aa</td>", read_costs(tmp_path))
    assert [(cost.stage, cost.gpus) for cost in found] == [("train", ["H100"]), ("evaluate", [])]
    assert found[0] == latest


def test_a_torn_line_is_passed_over_and_an_experiment_notes_in_its_project(tmp_path: Path) -> None:
    assert read_costs(tmp_path) == []
    folder = tmp_path / ".dvc/tmp/exps/tmp1"
    Meter(folder).end("train", "binary-case", ["aa"])
    with (tmp_path / COSTS).open("a") as stream:
        stream.write('{"stage": "tr')
    assert [cost.name for cost in read_costs(tmp_path)] == ["binary-case"]


def test_no_room_for_the_note_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").write_text("a file where a folder is needed")
    Meter(tmp_path).end("train", "binary-case", ["aa"])
    assert "the cost of this run is not noted" in capsys.readouterr().err


def test_energy_is_that_of_all_processors_through_the_counter_s_end(tmp_path: Path) -> None:
    counter(tmp_path / "intel-rapl:0", 9_000_000)
    counter(tmp_path / "intel-rapl:1", 0, "package-1")
    counter(tmp_path / "intel-rapl:0:0", 0, "core")
    energy = Energy(tmp_path)
    counter(tmp_path / "intel-rapl:0", 2_000_000)
    counter(tmp_path / "intel-rapl:1", 500_000, "package-1")
    assert energy.joules() == pytest.approx(3.5)


@pytest.mark.parametrize("name", ["psys", ""])
def test_what_is_no_processor_s_counter_is_not_measured(tmp_path: Path, name: str) -> None:
    counter(tmp_path / "intel-rapl:0", 1, name)
    assert Energy(tmp_path).joules() is None
    assert Energy(tmp_path / "missing").joules() is None
