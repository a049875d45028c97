"""Files beside a training file that are named as its validation or its test file."""

from __future__ import annotations

from pathlib import Path

import pytest

from finesweep.propose.sibling_files import siblings


@pytest.mark.parametrize(
    ("train", "beside", "found"),
    [
        ("reviews_train.csv", ["reviews_dev.csv", "reviews_test.csv"], ["reviews_dev.csv", "reviews_test.csv"]),
        ("reviews.csv", ["reviews_valid.csv"], ["reviews_valid.csv", None]),
        ("reviews.csv", ["reviews-validation.csv", "reviews_dev.csv"], ["reviews-validation.csv", None]),
        ("train.tsv", ["valid.csv", "valid.tsv", "test.jsonl"], ["valid.tsv", "test.jsonl"]),
        ("Train.csv", ["TEST.csv", "Dev.CSV"], ["Dev.CSV", "TEST.csv"]),
        ("en-train-v2.csv", ["en-test-v2.csv", "en-test-v1.csv", "de-dev-v2.csv"], [None, "en-test-v2.csv"]),
        ("reviews.csv", ["reviews_test.txt", "films_test.csv", "contest.csv", "test.csv"], [None, None]),
        ("reviews_test.csv", ["reviews_dev.csv", "reviews_train.csv"], [None, None]),
        ("latest.csv", ["dev.csv"], [None, None]),
        ("train.csv", ["train_test.csv", "test_2.csv"], [None, None]),
    ],
)
def test_files_of_the_same_name_but_for_their_role_are_found(
    tmp_path: Path, train: str, beside: list[str], found: list[str | None]
) -> None:
    for name in (train, *beside):
        (tmp_path / name).touch()
    expected = dict(zip(("validation", "test"), found, strict=True))
    assert {role: file.name for role, file in siblings(tmp_path / train).items()} == {
        role: name for role, name in expected.items() if name is not None
    }


def test_a_folder_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    assert not siblings(tmp_path / "missing" / "train.csv")
