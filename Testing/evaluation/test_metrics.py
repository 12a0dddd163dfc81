"""Figures of merit against values worked out by hand."""

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.localization.boxes import alpha_for_recall, box_recall
from APELocalizerLib.evaluation.metrics import auc, best_threshold, pooled, rank_correlation, summary


def test_auc_counts_ordered_pairs_and_half_ties():
    assert auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1.0
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 0.0
    # pairs (1,2) (1,3) (2,3) ordered, (2,2) tied: 3.5 of 4
    assert auc(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == pytest.approx(3.5 / 4)


def test_best_threshold_separates_what_can_be_separated():
    threshold, kept, refused = best_threshold(np.array([5.0, 10.0, 12.0]), np.array([40.0, 80.0]))
    assert 12 < threshold < 40
    assert (kept, refused) == (1.0, 1.0)


def test_summary_of_known_errors():
    s = summary(np.array([1.0, 2.0, 3.0, 10.0]))
    assert (s.count, s.mean, s.median) == (4, 4.0, 2.5)
    assert s.std == pytest.approx(np.sqrt((9 + 4 + 1 + 36) / 4))


def test_pooling_over_structures_is_the_mean_of_their_means():
    errors, names = np.array([0.0, 0.0, 0.0, 8.0, 10.0]), ["carina"] * 4 + ["apex"]
    assert pooled(errors, names).mean == pytest.approx(3.6)
    both = pooled(errors, names, "structures")
    assert (both.count, both.mean, both.std) == (5, 6.0, 4.0)
    assert np.isnan(pooled(np.array([]), [], "structures").mean)


def test_rank_correlation_is_that_of_ranks():
    """Ranks 1 2 3 4 against 1 2 4 3: Spearman's 1 - 6 Σd² / (n (n² - 1)) = 1 - 12 / 60."""
    assert rank_correlation(np.array([1, 5, 6, 70]), np.array([0.1, 0.2, 9.0, 3.0])) == pytest.approx(0.8)
    assert np.isnan(rank_correlation(np.array([1, 2]), np.array([1, 2])))


def test_enlargement_for_recall_is_the_smallest_that_covers():
    truth = Box((0, 0, 0), (100, 100, 100))
    found = Box((10, 10, 10), (90, 90, 90))  # same center, 0.8 of every edge: 1.25 covers all of it
    assert box_recall(found, truth) == pytest.approx(0.8**3)
    alpha = alpha_for_recall([(found, truth)], recall=0.99)
    assert 1.24 <= alpha <= 1.26
    assert box_recall(found.enlarged(alpha), truth) >= 0.99
    assert box_recall(found.enlarged(alpha - 0.02), truth) < 0.99
