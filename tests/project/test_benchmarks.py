"""`make bench`: rounds that alternate, goals that are judged, and one table that the runner writes."""

import ast
import importlib
import sys
from types import ModuleType

import numpy as np
import pytest

from scratch import ROOT

HERE = "2026-01-01, a machine"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("measure", monkeypatch)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    imported("measure", monkeypatch)
    return imported("run", monkeypatch)


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def page(run: ModuleType, *lines: str, on: str = "a machine") -> str:
    return "\n".join(["# Title", run.BEGIN, f"2026-01-01, {on}.", "", run.HEAD, *lines, run.END, "after"])


def test_lines_of_a_script_are_replaced_and_those_of_others_stay(run: ModuleType) -> None:
    before = page(run, "|`startup`|old|", "|`startup`|older|", "|`step`|kept|")
    after = run.write_table(before, {"startup": ["new"], "resize": ["also"]}, "a machine", "2026-02-02")
    assert [line for line in after.splitlines() if line.startswith("|`")] == [
        "|`startup`|new|", "|`resize`|also|", "|`step`|kept|",
    ]  # fmt: skip
    assert after.startswith("# Title\n")
    assert after.endswith("\nafter")
    assert "2026-02-02, a machine." in after
    assert run.write_table(after, {}, "a machine", "2026-02-02") == after


def test_lines_of_another_machine_go_and_a_script_without_figures_takes_none_away(run: ModuleType) -> None:
    before = page(run, "|`startup`|old|", "|`step`|other|")
    assert "|`step`|" not in run.write_table(before, {"startup": ["new"]}, "another", "2026-02-02")
    assert "|`step`|other|" in run.write_table(before, {"step": []}, "a machine", "2026-02-02")


def test_a_page_without_the_markers_is_not_touched(run: ModuleType) -> None:
    with pytest.raises(SystemExit, match="lacks <!-- benchmarks: begin"):
        run.write_table("# Title\n", {"step": ["x"]}, "a machine", "2026-02-02")
    assert run.BEGIN in run.PAGE.read_text()
    assert run.END in run.PAGE.read_text()


@pytest.mark.parametrize(
    ("given", "met", "line"),
    [
        ({"ours": 10.0, "peer": "X", "other": 4.0, "ratio": 2.5, "goal": ">=2.5"}, True, "a|10/s|X 4|2.5|≥2.5||yes"),
        ({"ours": 10.0, "peer": "X", "other": 5.0, "ratio": 2.0, "goal": ">=2.5"}, False, "a|10/s|X 5|2|≥2.5||**no**"),
        ({"ours": 1234.5, "peer": "X", "goal": ">=1"}, None, "a|1,234/s|X not installed||≥1||"),
        ({"ours": 0.1494, "unit": "s", "goal": "<=0.15", "peak_mb": 16.3}, True, "a|0.149s|||≤0.15|16.3|yes"),
        ({"ours": 0.151, "unit": "s", "goal": "<=0.15"}, False, "a|0.151s|||≤0.15||**no**"),
        ({"ours": 3.0, "unit": "MB"}, None, "a|3MB|||||"),
    ],
)
def test_a_row_says_whether_its_goal_is_met(
    measure: ModuleType, given: dict[str, object], met: bool | None, line: str
) -> None:
    row = measure.Row("a", **given)
    assert (row.met, row.line()) == (met, line)


def test_a_command_has_a_peak_of_its_own_and_one_that_fails_says_why(measure: ModuleType) -> None:
    held = b"x" * 200_000_000
    assert measure.timed(sys.executable, "-c", "b'x' * 50_000_000").peak_mb < 100 < len(held) / 1e6
    with pytest.raises(RuntimeError, match="no such thing"):
        measure.timed(sys.executable, "-c", "raise SystemExit('no such thing')")


def test_rounds_alternate_and_a_ratio_is_that_of_one_round(measure: ModuleType) -> None:
    order: list[str] = []
    speeds = iter([10.0, 5.0, 2.0, 1.0, 8.0, 2.0])

    def way(name: str) -> float:
        order.append(name)
        return next(speeds)

    found = measure.rounds({"a": lambda: way("a"), "b": lambda: way("b")}, 3)
    assert order == ["a", "b"] * 3
    assert measure.ratio(found["a"], found["b"]) == 2.0


def test_ways_run_in_processes_and_one_whose_package_is_missing_is_left_out(measure: ModuleType) -> None:
    there = "from measure import work; figures = iter([0, 1, 2, 3]); work(lambda: lambda: next(figures))"
    lacking = "from measure import work; work(lambda: __import__('no_such_package'))"
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); "
    commands = {name: [sys.executable, "-c", code + own] for name, own in (("ours", there), ("peer", lacking))}
    found = measure.compare(commands, 3)
    assert list(found) == ["ours"]
    assert found["ours"].figures == [1, 2, 3]  # the first round warms up
    assert found["ours"].peak_mb > 1
    assert measure.versus("x", found, "peer", ">=1").met is None


def test_a_quick_run_changes_only_options_that_the_script_has(run: ModuleType) -> None:
    for name in run.SCRIPTS:
        tree = ast.parse((ROOT / f"benchmarks/{name}.py").read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        options = {
            call.args[0].value.lstrip("-").replace("-", "_")
            for call in calls
            if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
            and isinstance(call.args[0], ast.Constant)
        }  # fmt: skip
        (quick,) = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "parse"]
        assert {keyword.arg for keyword in quick.keywords} <= options, name
        assert any(isinstance(call.func, ast.Name) and call.func.id == "tell" for call in calls), name


def test_a_script_that_needs_a_model_is_left_out_with_a_sentence(run: ModuleType) -> None:
    from argparse import Namespace

    told = run.arguments("slides", Namespace(model=None, folder=None, images=ROOT))
    assert isinstance(told, str)
    assert "biopsy export" in told
    here = Namespace(model=ROOT / "Makefile", folder=ROOT / "no-such", images=ROOT)
    assert run.arguments("slides", here) == [str(ROOT / "Makefile")]
    assert run.arguments("serve_load", here) == "needs --folder, which does not exist"


def test_a_model_of_random_weights_that_has_seen_images_answers_each_differently(
    measure: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from biopsy.networks.backend import keras

    inference = imported("inference", monkeypatch)
    keras.utils.set_random_seed(0)
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(pixels)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    model = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(x))
    images = inference.images_of(16, 32).astype(np.float32)
    blind = model.predict_on_batch(images)
    inference.see(model, images)
    seeing = model.predict_on_batch(images)
    np.testing.assert_allclose(seeing, model(images, training=True), atol=1e-4)
    assert 0.05 < np.median(seeing) < 0.95
    assert np.median(np.minimum(seeing, 1 - seeing)) > 10 * np.median(np.minimum(blind, 1 - blind))

    answers = np.array([[0.1], [0.8]])
    (row,) = inference.parity("a", answers + np.array([[0], [3e-4]]), answers)
    assert (row.met, row.line()) == (False, "a, unlike Keras|0.0003|range 0.7||≤0.0001||**no**")
    assert inference.parity("a", answers, answers)[0].met
    assert inference.parity("a", np.full((2, 1), 0.5), np.full((2, 1), 0.5)) == []
    assert "left out; the answers to all images lie within 0" in capsys.readouterr().out


@pytest.mark.slow
def test_dvc_and_an_epoch_are_measured_with_single_files_and_with_tars(
    measure: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = imported("dvc_scale", monkeypatch)
    single, packed = (scale.measure_folder(12, shard) for shard in (0, 4))
    assert list(single) == list(packed)
    rows = scale.shard_rows(
        {**single, "dvc add": measure.Run(9, 6.0, 80)}, {**packed, "dvc add": measure.Run(9, 3.0, 70)}
    )
    assert {"dvc push, tars", "an epoch's reading, tars"} < {row.what for row in rows}
    assert rows[0].line() == "dvc add, tars|3s|files 6|2||70|"


def test_the_import_of_tensorflow_has_a_goal(measure: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    command, goal = imported("startup", monkeypatch).COMMANDS["importing TensorFlow"]
    assert goal == 2.5
    assert measure.timed(*command).peak_mb > 100  # it is imported


def test_without_a_compiler_the_row_of_torch_compile_is_left_out_with_its_reason(
    measure: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = imported("step", monkeypatch)
    ways = dict.fromkeys(step.WAYS, measure.Found([2.0], 5.0))
    monkeypatch.setattr(step, "compare", lambda commands, count: {way: ways[way] for way in commands})
    monkeypatch.setattr(sys, "argv", ["step.py", "head"])
    told = []
    for code in ("pass", "raise SystemExit('no compiler')"):
        monkeypatch.setattr(step, "COMPILE", code)
        step.main()
        told.append(capsys.readouterr().out.splitlines())
    assert [line.split(" | ")[2] for line in told[0]] == ["Keras 2", "PyTorch 2", "torch.compile 2", "JAX 2", "XLA 2"]
    assert told[1] == ["torch.compile: left out; no compiler", *told[0][:2], *told[0][3:]]


def test_each_mutant_still_finds_the_code_that_it_breaks_and_the_tests_that_guard_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for mutant in imported("mutants", monkeypatch).MUTANTS:
        assert (ROOT / mutant.file).read_text().count(mutant.before) == 1, mutant.name
        assert all((ROOT / test.partition("::")[0]).is_file() for test in mutant.tests), mutant.name


def test_every_figure_that_was_asked_for_without_a_peer_is_a_row_with_its_goal(
    measure: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    startup, loading = (imported(name, monkeypatch) for name in ("startup", "loading"))
    assert "biopsy show-augment" in startup.COMMANDS  # which needs no model
    monkeypatch.setattr(loading, "in_a_process", lambda *_: {"later": 4000.0, "peak": 7.0})
    loading.compare(None, 2, 1)
    assert "later epochs | 4,000/s | asked for 2,000 | 2 | ≥1 | 7 | yes" in capsys.readouterr().out
