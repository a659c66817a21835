"""What dvc.lock says of a run: DVC keeps stages in it that the parameters no longer ask for."""

from typing import Any

import pytest

from biopsy.experiments.dvc_lock import is_fresh


def lock() -> dict[str, Any]:
    """A run of the task `own` on the user's images, in a clone whose lock still has the sample's `binary`."""

    def tested(task: str, epochs: int) -> dict[str, Any]:
        return {
            "params": {"params.yaml": {"train.epochs": epochs}},
            "outs": [{"path": f"metrics/{task}-case/test.json", "md5": task}],
        }

    return {
        "evaluate@binary-case": tested("binary", 20),
        "stain@image": {
            "params": {"params.yaml": {"train.epochs": 20}},
            "outs": [{"path": "metrics/stain-image.json", "md5": "s"}],
        },
        "evaluate@own-case": tested("own", 30),
        "report": {
            "deps": [{"path": "metrics", "md5": "all.dir"}],
            "outs": [{"path": "plots/report.html", "md5": "r"}],
        },
    }


@pytest.mark.parametrize(
    ("tasks", "protocols", "fresh"),
    [(["own"], ["case"], True), (["own", "binary"], ["case"], False), (["own"], ["case", "image"], False)],
)
def test_a_report_is_fresh_whatever_stages_of_other_tasks_and_protocols_the_lock_still_holds(
    tasks: list[str], protocols: list[str], fresh: bool
) -> None:
    params = {"tasks": tasks, "protocols": protocols, "train": {"epochs": 30}}
    assert is_fresh(lock(), "report", params) is fresh
    assert is_fresh(lock(), "evaluate@own-case", params)
    assert not is_fresh(lock(), "evaluate@binary-case", params)
