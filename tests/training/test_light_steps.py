"""Threads of light steps."""

import os
from typing import Any

import pytest

from biopsy.core.params import parse_params
from biopsy.networks.backbones.registry import find
from biopsy.training.light_steps import choose_threads


@pytest.mark.parametrize(
    ("backbone", "size", "batch", "chosen", "threads"),
    [
        ("cnn_small", 96, 8, None, "2"),
        ("cnn_small", 96, 8, "3", "3"),
        ("cnn_small", 224, 64, None, None),
        ("mobilenetv2", 96, 8, None, None),
    ],
)
def test_a_light_step_runs_in_two_threads_unless_the_user_chose_a_number(
    monkeypatch: pytest.MonkeyPatch, backbone: str, size: int, batch: int, chosen: str | None, threads: Any
) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", chosen or "")  # it is restored after the test
    if not chosen:
        monkeypatch.delenv("TF_NUM_INTRAOP_THREADS")
    choose_threads(find(backbone), parse_params({"resize": {"size": size}, "train": {"batch": batch}}))
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == threads
