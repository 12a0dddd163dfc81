"""Boxes from a few supports and their enlargement, against values worked out by hand."""

import numpy as np
import pytest

from APELocalizerLib.core.annotations.organ_marks import OrganMarks
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.evaluation.box_enlargement import enlargements
from APELocalizerLib.evaluation.mean_boxes import few_shot_boxes, mean_box, with_few_shot_boxes
from APELocalizerLib.evaluation.pairing import StudySettings
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.report_tables import enlargement_table
from APELocalizerLib.evaluation.retrieval_table import Retrieval
from APELocalizerLib.evaluation.study import Study
from APELocalizerLib.methods.annotated_case import AnnotatedCase
from APELocalizerLib.methods.transfer import Transfer

VIEW = Box((-200, -200, -200), (200, 200, 200))
BODY = Box((-100, -100, -200), (100, 100, 200))
TRUTH = Box((-50, -50, -50), (50, 50, 50))


class Named(Transfer):
    def __init__(self, name):
        super().__init__()
        self.name = name


def case(name: str, patient: str = "", voxels=None) -> AnnotatedCase:
    organ = OrganMarks(TRUTH, voxels=voxels, edges=None if voxels is None else voxels[:6])
    return AnnotatedCase(name, patient or name, {}, {"liver": organ}, {}, VIEW, BODY, np.eye(4))


def found(support: str, box: Box | None, method="ours", target="anna", definition="box") -> Retrieval:
    return Retrieval(method, target, (support,), "box", "liver", definition=definition, box=box)


def study_of(rows, supports, cases=None, methods=("ours",), **choices) -> Study:
    everyone = cases or {name: case(name) for name in ("anna", *supports)}
    return Study(
        *(list(rows), everyone, ("anna",), tuple(supports), Protocol(**choices), StudySettings()),
        *(tuple(map(Named, methods)), ()),
    )


def cube(half: float, shift: float = 0.0) -> Box:
    return Box((shift - half, -half, -half), (shift + half, half, half))


def test_boxes_are_averaged_corner_by_corner():
    assert mean_box([cube(40), cube(60, 10)]) == Box((-45, -50, -50), (55, 50, 50))


def test_the_mean_of_all_supports_is_taken_where_few_show_the_organ():
    rows = [found("bert", cube(40)), found("carl", cube(60))]
    [only] = few_shot_boxes(study_of(rows, ["bert", "carl"], few_shots=5, folds=10), "ours")
    assert only.box == TRUTH and only.iou == 1.0 and set(only.supports) == {"bert", "carl"}


def test_draws_are_random_but_repeatable_and_count_once():
    supports = [f"s{n}" for n in range(6)]
    rows = [found(name, cube(40 + n)) for n, name in enumerate(supports)]
    boxes = few_shot_boxes(study_of(rows, supports, few_shots=2, folds=10, seed=3), "ours")
    assert all(len(each.supports) == 2 for each in boxes)
    assert 5 <= len({frozenset(each.supports) for each in boxes}) == len(boxes) <= 10
    assert boxes == few_shot_boxes(study_of(rows, supports, few_shots=2, folds=10, seed=3), "ours")
    for each in boxes:
        halves = [40 + supports.index(name) for name in each.supports]
        assert each.box == cube(np.mean(halves))


def test_one_scan_of_a_patient_at_most_is_drawn():
    everyone = {name: case(name, "b" if name.startswith("bert") else "") for name in ("anna", "bert1", "bert2", "carl")}
    rows = [found(name, TRUTH) for name in ("bert1", "bert2", "carl")]
    study = study_of(rows, ["bert1", "bert2", "carl"], everyone, few_shots=3, folds=20)
    drawn = [set(each.supports) for each in few_shot_boxes(study, "ours")]
    assert {frozenset(each) for each in drawn} == {frozenset({"bert1", "carl"}), frozenset({"bert2", "carl"})}


def test_methods_are_compared_on_the_same_draws():
    """The slow method lacks Dora, so that draws with her are left out for it."""
    names = ["bert", "carl", "dora"]
    rows = [found(name, TRUTH) for name in names] + [found(name, cube(40), "slow") for name in names[:2]]
    study = with_few_shot_boxes(study_of(rows, names, methods=("ours", "slow"), few_shots=2, folds=30))
    few = [each for each in study.retrievals if each.kind == "few-shot box"]
    ours, slow = ([set(each.supports) for each in few if each.method == name] for name in ("ours", "slow"))
    assert len(ours) == 3 and slow == [{"bert", "carl"}]


def test_a_support_without_box_is_left_out_of_the_mean_and_none_at_all_is_a_miss():
    [half] = few_shot_boxes(study_of([found("bert", cube(40)), found("carl", None)], ["bert", "carl"]), "ours")
    assert half.box == cube(40)
    [miss] = few_shot_boxes(study_of([found("bert", None)], ["bert"]), "ours")
    assert miss.box is None and miss.iou == 0.0


# Enlargement ----------------------------------------------------------------------------------------------------------


def enlargement_of(boxes, cases=None, **choices):
    rows = [Retrieval("ours", "anna", ("b",), "few-shot box", "liver", box=box, fold=n) for n, box in enumerate(boxes)]
    return enlargements(rows, study_of([], [], cases, **choices))[0]


def test_enlargement_until_the_box_holds_the_organ():
    """A box with 0.8 of every edge holds 99 % of the volume when its edges have grown to 0.99^(1/3) of the organ's."""
    result = enlargement_of([cube(40)])
    assert result.alpha == pytest.approx(0.99 ** (1 / 3) / 0.8, abs=1e-4)
    assert result.recall == pytest.approx(0.99, abs=1e-4)
    assert result.volume_ratio == pytest.approx(64 / 0.99, rel=1e-3)


def test_a_large_box_is_not_shrunk():
    result = enlargement_of([cube(80)])
    assert (result.alpha, result.recall) == (1.0, 1.0)
    assert result.volume_ratio == pytest.approx((400 / 160) ** 3)


def test_margin_body_and_ratio_of_means():
    result = enlargement_of([cube(40)], enlargement="margin", recall="each", raw_volume="body")
    assert result.alpha == pytest.approx(50 * 0.99 ** (1 / 3) - 40, abs=1e-3)
    assert result.volume_ratio == pytest.approx(200 * 200 * 400 / (0.99 * 100**3), rel=1e-3)
    two = enlargement_of([cube(50), cube(100)], volume_ratio="ratio")
    assert two.volume_ratio == pytest.approx(2 * 400**3 / (100**3 + 200**3))


def test_recall_on_average_or_in_each_and_per_fold():
    small, exact = cube(40), cube(50)
    mean, each = enlargement_of([small, exact]), enlargement_of([small, exact], recall="each")
    assert mean.alpha == pytest.approx(0.98 ** (1 / 3) / 0.8, abs=1e-3)  # 0.98 and 1 give 0.99
    assert each.alpha == pytest.approx(0.99 ** (1 / 3) / 0.8, abs=1e-3)
    folds = enlargement_of([small, exact], alpha_over="fold")
    assert folds.alpha == pytest.approx((0.99 ** (1 / 3) / 0.8 + 1) / 2, abs=1e-3)


def test_recall_counts_voxels_of_a_mask_where_there_is_one():
    """100 voxels in a row from R 0.5 to 99.5: the 99th is at 98.5, so the half width must grow to 98.5."""
    voxels = np.zeros((100, 3))
    voxels[:, 0] = np.arange(100) + 0.5
    everyone = {"anna": case("anna", voxels=voxels)}
    assert enlargement_of([cube(50)], everyone).alpha == pytest.approx(98.5 / 50, abs=1e-4)


def test_where_nothing_is_found_nothing_is_cropped():
    result = enlargement_of([None])
    assert (result.recall, result.volume_ratio) == (1.0, 1.0)


def test_a_box_that_misses_the_organ_grows_until_it_holds_it():
    far = Box((100, -10, -10), (120, 10, 10))
    result = enlargement_of([far])
    assert result.recall == pytest.approx(0.99, abs=1e-3) and result.alpha > 10
    assert 1 <= result.volume_ratio < 3


FLAT = Box((0, -50, -50), (0, 50, 50))
"""Found without thickness: no factor makes it hold the organ."""


@pytest.mark.parametrize("voxels", [None, np.linspace(-50, 50, 30).reshape(10, 3)], ids=["box", "mask"])
@pytest.mark.parametrize("choices", [{}, {"alpha_over": "fold"}, {"recall": "each", "volume_ratio": "ratio"}])
def test_a_flat_box_reaches_the_recall_with_no_factor_but_with_a_margin(voxels, choices):
    everyone = {"anna": case("anna", voxels=voxels)}
    result = enlargement_of([FLAT], everyone, **choices)
    assert np.isnan(result.alpha) and np.isnan(result.volume_ratio) and result.recall < 0.99
    margin = enlargement_of([FLAT], everyone, enlargement="margin", **choices)
    assert margin.recall >= 0.99 and margin.alpha <= 50


def test_the_table_has_a_dash_where_the_recall_is_not_reached_and_means_the_other_organs():
    """The spleen's box holds 1/64 of the scan, and the liver's is flat."""
    rows = [Retrieval("ours", "anna", ("b",), "few-shot box", "liver", box=FLAT)]
    rows.append(Retrieval("ours", "anna", ("b",), "few-shot box", "spleen", box=TRUTH))
    anna = case("anna")
    anna.organs["spleen"] = OrganMarks(TRUTH)
    _, _, mean, liver, spleen = enlargement_table(study_of(rows, ["b"], {"anna": anna}))
    assert liver == "| liver | 1 | – | 0.000 | – |"
    assert spleen == "| spleen | 1 | 1.00 | 1.000 | 64.0 |" and mean == "| **mean of the organs** | 2 |  |  | 64.0 |"
    _, _, mean, _ = enlargement_table(study_of(rows[:1], ["b"], {"anna": anna}))
    assert mean == "| **mean of the organs** | 1 |  |  | – |"
