import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.pruning.early_stopping import out_of_patience
from finesweep.spec.sections import DataSpec, EvaluationSpec, ObjectiveSpec, ScratchModelSpec, SweepSpec
from finesweep.trial import Direction, Evaluation

ROWS = 100


def spec(patience="auto", metric="eval_loss", direction=Direction.MINIMIZE, per_epoch=1):
    return SweepSpec(
        name="bert",
        base=".",
        model=ScratchModelSpec(config="bert"),
        data=DataSpec(),
        objective=ObjectiveSpec(metric=metric, direction=direction),
        evaluation=EvaluationSpec(per_epoch=per_epoch),
        space={},
        patience=patience,
    )


def seen(examples, objective):
    return Evaluation(examples // 10, examples / ROWS, examples, {}, objective)


@pytest.mark.parametrize(
    ("best", "latest", "ends"),
    [
        (seen(100, 0.4), seen(200, 0.41), True),
        (seen(100, 0.4), seen(150, 0.6), False),  # half an epoch says little
        (seen(75, 0.4), seen(175, 0.41), True),  # whatever the best was evaluated for
        (seen(100, 0.6900), seen(300, 0.6905), False),  # a plateau: equal but for chance
        (seen(100, 0.4), seen(100, 0.4), False),
    ],
)
def test_a_loss_that_is_clearly_above_its_best_of_an_epoch_ago_ends_a_trial(best, latest, ends):
    assert out_of_patience(spec(), ROWS, best, latest) == ("eval_loss rises" if ends else None)


def test_other_metrics_often_come_back_so_they_end_nothing_by_themselves():
    falls = spec(metric="eval_accuracy", direction=Direction.MAXIMIZE)
    assert out_of_patience(falls, ROWS, seen(100, 0.9), seen(400, 0.5)) is None


def test_none_is_endless():
    assert out_of_patience(spec("none"), ROWS, seen(100, 0.4), seen(900, 0.9)) is None


def test_a_folder_from_before_there_was_auto_says_none():
    assert spec(None).patience == "none"


@pytest.mark.parametrize(
    ("patience", "per_epoch", "waited", "why"),
    [
        (1, 1, 100, "no gain in 1 evaluation"),
        (1, 1, 50, None),
        (3, 4, 75, "no gain in 3 evaluations"),
        (3, 4, 50, None),
    ],
)
def test_a_number_counts_evaluations_that_were_asked_for(patience, per_epoch, waited, why):
    asked = spec(patience, "eval_accuracy", Direction.MAXIMIZE, per_epoch)
    assert out_of_patience(asked, ROWS, seen(100, 0.4), seen(100 + waited, 0.4)) == why


@given(st.floats(0.01, 10), st.floats(0, 1), st.integers(0, 900))
def test_a_loss_that_has_not_risen_never_ends_a_trial(best, share, waited):
    assert out_of_patience(spec(), ROWS, seen(100, best), seen(100 + waited, best * share)) is None
