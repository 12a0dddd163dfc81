"""The retrieval study on made-up patients whose right answers are known."""

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.crops import crop_superior_inferior
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.retrieval_table import select, write_csv
from APELocalizerLib.methods.transfer import Transfer
from made_up.patients import study_of


def test_study_finds_what_is_there_and_reports_what_was_cropped_away(patients):
    results = study_of(patients).retrievals
    present = select(results, "landmark")
    assert {(r.target, r.supports) for r in present} == {("anna", ("bert",)), ("bert", ("anna",))}
    assert {r.name for r in present} == {"apex", "carina", "hip"}
    assert max(r.error_mm for r in present) < 0.5
    assert all(r.found for r in present)
    boxes = select(results, "box")
    assert {r.name for r in boxes} == {"liver"}, "an organ cut by the field of view must not be scored"
    assert min(r.iou for r in boxes) > 0.98 and max(r.wall_error_mm for r in boxes) < 0.5
    absent = select(results, "absent landmark")
    assert {"apex", "hip"} <= {r.name for r in absent}
    assert min(r.round_trip_mm for r in absent) > 40 and not any(r.found for r in absent)


def test_errors_are_found_minus_true_and_carry_both_uncertainties(world):
    """Bert's embedding is 7 mm off along R, so that his carina is found 7 mm too far right."""
    for name, shift in (("anna", (0, 0, 0)), ("bert", (7, 0, 0))):
        world.add(name, shift)
        world.mark(name, "carina", (10, 20, 90), 3 if name == "anna" else 4)
        world.mark(name, "hip", (10, 20, -90))
    by_target = {(r.target, r.name): r for r in study_of(world, absent=False).retrievals}
    there = by_target["bert", "carina"]
    assert (there.error_r_mm, there.error_a_mm, there.error_s_mm) == pytest.approx((7, 0, 0), abs=0.1)
    assert by_target["anna", "carina"].error_r_mm == pytest.approx(-7, abs=0.1)
    assert there.uncertainty_mm == pytest.approx(5.0), "3 and 4 mm together"
    assert by_target["anna", "hip"].uncertainty_mm == 0.0


def test_answers_of_all_supports_are_averaged(world):
    """Two supports whose embeddings are off by 10 and by -4 mm lead to +10 and -4 mm, together to 3 mm."""
    for name, off in (("anna", 0), ("bert", -10), ("carl", 4)):
        world.add(name, (off, 0, 0))
        world.mark(name, "carina", (10, 20, 90))
        world.box(name, "liver", (-60, 40, -50, 50, -20, 60))
    results = study_of(world, targets=["anna"], absent=False).retrievals
    alone = {r.supports: r.error_r_mm for r in select(results, "landmark", shots=1)}
    assert alone == pytest.approx({("bert",): 10, ("carl",): -4}, abs=0.1)
    [together] = select(results, "landmark", shots=0)
    assert together.supports == ("bert", "carl") and together.error_r_mm == pytest.approx(3, abs=0.1)
    [box] = select(results, "box", shots=0)
    assert np.allclose(box.box.minimum, (-57, -50, -20), atol=0.2)
    assert box.wall_error_mm == pytest.approx(1.0, abs=0.1), "two of six sides are 3 mm off"


# Label maps -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(world):
    """Anna and Bert with label maps, Carl with a box of the same liver: voxels 5…14, 6…15, 20…29."""
    for name in ("anna", "bert"):
        world.add(name)
        liver = (slice(5, 15), slice(6, 16), slice(20, 30))
        world.label_map(name, {"liver": liver, "liver_tumor": (slice(20, 22),) * 3, "lung": (slice(0, 9),) * 3})
    world.add("carl")
    world.box("carl", "liver", (-60, 12, -52, 20, -36, 36))
    return world


def test_label_maps_and_boxes_are_mixed_and_compared_like_with_like(mixed):
    results = study_of(mixed, absent=False).retrievals
    used = {(r.target, r.supports[0]): r.definition for r in select(results, "center", shots=1)}
    assert used["anna", "bert"] == "mask"
    assert used["anna", "carl"] == used["carl", "anna"] == "box"
    assert {r.definition for r in select(results, "center", shots=0)} == {"box"}, "one of the supports has only a box"
    assert {r.name for r in results} == {"liver"}, "tumors are no anatomy, and the lung is cut"
    edges = [r for r in select(results, "edge", shots=1, definition="mask") if r.target == "anna"]
    assert [r.part for r in edges] == ["rmin", "rmax", "amin", "amax", "smin", "smax"]
    assert max(r.error_mm for r in results if r.kind != "box") < 0.5
    assert min(r.iou for r in select(results, "box")) > 0.98


def test_which_points_of_organs_count_can_be_chosen(mixed):
    only_boxes = study_of(mixed, protocol=Protocol(organ_points="box"), absent=False).retrievals
    assert {r.definition for r in only_boxes} == {"box"}
    only_masks = study_of(mixed, protocol=Protocol(organ_points="mask"), absent=False).retrievals
    assert {(r.target, r.supports[0]) for r in only_masks} == {("anna", "bert"), ("bert", "anna")}


# Options --------------------------------------------------------------------------------------------------------------


def test_a_box_at_the_border_is_cut_even_if_the_table_does_not_say_so(world):
    for name in ("anna", "bert"):
        world.add(name)
        world.box(name, "liver", (-60, 40, -50, 50, -195, 60))
        world.mark(name, "carina", (10, 20, 90))
    study = study_of(world, absent=False)
    assert not select(study.retrievals, "box")
    assert "anna: the field of view cuts liver, left out." in study.notes
    kept = study_of(world, protocol=Protocol(cut_organs="keep"), absent=False)
    assert len(select(kept.retrievals, "box")) == 2


def test_annotations_that_are_too_uncertain_are_left_out_and_named(patients):
    study = study_of(patients, protocol=Protocol(max_uncertainty_mm=3.5), absent=False)
    assert not select(study.retrievals, "landmark") and select(study.retrievals, "box")
    assert any("bert" in note and "carina" in note for note in study.notes)


def test_answers_can_be_rounded_to_voxels(world):
    for name, shift in (("anna", 0), ("bert", 3)):
        world.add(name, (shift, 0, 0))
        world.mark(name, "carina", (12, 20, 92))  # a voxel's center
        world.box(name, "liver", (-60, 36, -52, 52, -20, 60))
    exact = study_of(world, targets=["bert"], absent=False).retrievals
    rounded = study_of(world, targets=["bert"], absent=False, protocol=Protocol(answers="voxel")).retrievals
    assert select(exact, "landmark")[0].error_mm == pytest.approx(3, abs=0.1)
    assert select(rounded, "landmark")[0].error_mm == pytest.approx(0, abs=1e-6)
    assert select(rounded, "box")[0].box == Box((-60, -52, -20), (36, 52, 60))


def test_boxes_are_made_of_all_six_points_or_of_pairs(world):
    """An odd method moves the upper extreme point far to the right: it stretches the box of all six points only."""

    class Odd(Transfer):
        name = "odd"

        def carry(self, support_id, target_id, points):
            moved = points.copy()
            if len(points) == 6 or len(points) == 7:
                moved[-1] += [90, 0, 0]
            return moved

    for name in ("anna", "bert"):
        world.add(name)
        world.box(name, "liver", (-60, 20, -50, 50, -20, 60))
    odd = {}
    for how in ("all", "pairs", "rule"):
        protocol = Protocol(box_from=how)
        results = study_of(world, world.method(), Odd(), protocol=protocol, absent=False, targets=["anna"]).retrievals
        odd[how] = select(results, "box", "odd")[0].box
    assert odd["all"].maximum[0] == odd["rule"].maximum[0] == pytest.approx(70)
    assert odd["pairs"] == Box((-60, -50, -20), (20, 50, 60))


class Heights(Transfer):
    """A method that finds heights only, 4 mm too high."""

    name = "heights"

    def carry(self, support_id, target_id, points):
        return np.column_stack([np.full((len(points), 2), np.nan), points[:, 2] + 4])


@pytest.mark.parametrize("answers", ["exact", "voxel"])
def test_a_method_may_answer_along_one_axis_only(world, answers):
    for name in ("anna", "bert"):
        world.add(name)
        world.mark(name, "carina", (12, 20, 92))  # a voxel's center
        world.box(name, "liver", (-60, 36, -52, 52, -20, 60))
    study = study_of(world, Heights(), protocol=Protocol(answers=answers), targets=["anna"], absent=False)
    [carina] = select(study.retrievals, "landmark")
    assert carina.error_s_mm == pytest.approx(4 if answers == "exact" else 0)
    assert np.isnan([carina.error_r_mm, carina.error_a_mm, carina.error_mm]).all()
    assert not select(study.retrievals, "box"), "boxes need all axes"
    assert len(select(study.retrievals, "edge")) == 6


def test_places_in_the_air_are_not_learned_and_named(patients):
    patients.mark("anna", "nowhere", (10, 20, 900))
    patients.mark("bert", "nowhere", (10, 20, 90))
    study = study_of(patients, absent=False)
    assert {r.target for r in study.retrievals if r.name == "nowhere"} == {"anna"}
    assert any("anna: nowhere not learned" in note for note in study.notes)


def test_crop_keeps_the_world_position_of_what_remains():
    scan = Scan(np.arange(20 * 20 * 60).reshape(20, 20, 60) % 1500 - 1000.0, np.diag([5.0, 5.0, -4.0, 1.0]), "x")
    cropped = crop_superior_inferior(scan, -100, -50)
    assert cropped.bounds().minimum[2] >= -102.1 and cropped.bounds().maximum[2] <= -47.9
    first = np.array([0, 0, 0, 1])
    s = (cropped.ijk_to_ras @ first)[2]
    assert cropped.voxels[3, 4, 0] == scan.voxels[3, 4, int(round(s / -4))]


def test_every_retrieval_is_a_csv_row(patients, tmp_path):
    results = study_of(patients).retrievals
    write_csv(results, tmp_path / "retrievals.csv")
    lines = (tmp_path / "retrievals.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(results) + 1
    assert lines[0].startswith("method,target,supports,kind,name") and lines[0].endswith(
        "rmin,rmax,amin,amax,smin,smax"
    )
    assert all(len(line.split(",")) == len(lines[0].split(",")) for line in lines)
