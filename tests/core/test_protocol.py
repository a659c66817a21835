"""The grammar of protocol names."""

import pytest

from biopsy.core.protocol import PUBLIC, Fold, Protocol, parse_protocol


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("case", Protocol("case", "case")),
        *((name, Protocol(name, name)) for name in PUBLIC),
        ("slide-2of7", Protocol("slide-2of7", "slide", k=7, index=2)),
        ("image-cv10", Protocol("image-cv10", "image", k=10)),
        ("case-cv5x3", Protocol("case-cv5x3", "case", k=5, repeats=3)),
    ],
)
def test_a_name_says_unit_folds_and_repeats(name: str, found: Protocol) -> None:
    assert parse_protocol(name) == found


def test_a_cross_validation_alone_has_folds_repeat_by_repeat() -> None:
    assert parse_protocol("case-cv3x2").folds == [Fold(r, i) for r in (1, 2) for i in (1, 2, 3)]
    assert [parse_protocol(name).folds for name in ("case", "fold1", "case-1of3")] == [[], [], []]
    assert Fold(1, 3).name == "1-3"


def test_more_folds_than_anybody_trains_are_rejected_before_they_are_listed() -> None:
    with pytest.raises(ValueError, match="has 99999999999 folds; at most 1000"):
        parse_protocol("case-cv99999999999")


@pytest.mark.parametrize("name", ["", "Case", "case-", "case-cv", "case-cv05", "case-cv5x0", "case-cv5x", "case-0of5"])
def test_other_names_are_rejected_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=r"not a protocol: it must be image, .*case-cv5x3"):
        parse_protocol(name)
