from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.torch


def test_rows_of_an_evaluation_come_back_in_their_own_order() -> None:
    from finesweep.training.batching import evaluation_order
    from finesweep.training.evaluation import by_row

    lengths = np.array([3, 9, 1, 9, 4])
    order = evaluation_order(lengths)
    assert order[:2] == [1, 3], "the longest first"
    own = np.arange(5) * 10.0
    found = by_row({"eval_loss": own[order]}, own[order], lengths)
    assert found.values["eval_loss"].tolist() == own.tolist()
    assert found.labels.tolist() == own.tolist()
