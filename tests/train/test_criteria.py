"""Criteria that judge classifiers without labels."""

from __future__ import annotations

import numpy as np
import pytest

from glotprompt.train.criteria import agreement, mutual_information, scores


def log_probs(rows: list[list[float]]) -> np.ndarray:
    return np.log(np.array(rows))


SURE = log_probs([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98]])
UNSURE = log_probs([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]])
COLLAPSED = log_probs([[0.98, 0.01, 0.01]] * 3)


def test_mutual_information_wants_sure_and_varied_predictions() -> None:
    entropy = -(0.98 * np.log(0.98) + 0.02 * np.log(0.01))
    assert mutual_information(SURE) == pytest.approx(np.log(3) - entropy)
    assert mutual_information(SURE) > mutual_information(UNSURE) > mutual_information(COLLAPSED)
    assert mutual_information(COLLAPSED) == pytest.approx(0, abs=1e-12)


def test_labels_that_are_not_allowed_do_not_count() -> None:
    two = log_probs([[0.6, 0.1, 0.3], [0.1, 0.6, 0.3]])
    pair = log_probs([[6 / 7, 1 / 7], [1 / 7, 6 / 7]])
    assert mutual_information(two, [0, 1]) == pytest.approx(mutual_information(pair))


def test_agreement_is_the_share_that_follows_the_mean_of_all() -> None:
    swapped = SURE[[1, 0, 2]]
    assert agreement([SURE, SURE, swapped]) == pytest.approx([1, 1, 1 / 3])


def test_a_shared_bias_does_not_win_the_vote() -> None:
    """Two of three favour label 0 so far that it wins everywhere; without their bias they side with the third."""
    biased = log_probs([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05], [0.5, 0.05, 0.45]])
    found = agreement([biased, biased, SURE])
    assert found[2] == 1
    assert found[0] == pytest.approx(1 / 3)


def test_every_candidate_gets_a_score() -> None:
    candidates = {"one": SURE, "two": COLLAPSED}
    assert scores("mutual-information", candidates)["one"] == mutual_information(SURE)
    assert scores("agreement", candidates)["one"] == 1.0
