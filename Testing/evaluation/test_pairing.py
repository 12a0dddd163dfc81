"""Which supports a target is searched with: other patients only, as many as asked for, and drawn repeatably."""

import pytest

from APELocalizerLib.core.annotations.cases import EvaluationError
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.retrieval_table import select
from APELocalizerLib.methods.transfer import Transfer
from made_up.patients import study_of


@pytest.mark.parametrize("how", ["prefix", "column", "table"])
def test_scans_of_one_patient_never_support_each_other(world, how):
    for name in ("anna", "anna_later", "bert"):
        world.add(name)
        world.mark(name, "carina", (10, 20, 90))
    prefixes = ["anna"] if how == "prefix" else []
    if how == "column":
        rows = (world.folder / "landmarks.csv").read_text(encoding="utf-8").splitlines()
        patient = ["patient", "p1", "p1", "p2"]
        (world.folder / "landmarks.csv").write_text(
            "\n".join(f"{row},{cell}" for row, cell in zip(rows, patient, strict=True))
        )
    if how == "table":
        (world.folder / "patients.csv").write_text("case,patient\nanna,p1\nanna_later,p1\n")
    results = study_of(world, prefixes=prefixes).retrievals
    found = {(r.target, r.supports) for r in results}
    assert found == {
        *{("anna", ("bert",)), ("anna_later", ("bert",))},
        *{("bert", ("anna",)), ("bert", ("anna_later",)), ("bert", ("anna", "anna_later"))},
    }


def test_pairs_are_bounded_for_all_methods_and_for_slow_ones(world):
    class Slow(Transfer):
        name = "slow"
        slow_per_pair = True

        def carry(self, support_id, target_id, points):
            return points

    for name in ("anna", "bert", "carl", "dora"):
        world.add(name)
        world.mark(name, "carina", (10, 20, 90))
    results = study_of(world, world.method(), Slow(), baseline_pairs=4, shots=(1,), absent=False).retrievals
    slow = select(results, "landmark", "slow")
    assert len(slow) == 4 and len({r.target for r in slow}) == 4, "every target in turn"
    assert len(select(results, "landmark", "made up")) == 12
    assert len(study_of(world, pairs=5, shots=(1,), absent=False).retrievals) == 5


def test_groups_of_supports_are_drawn_at_random_but_repeatably(world):
    for name in ("anna", "bert", "carl", "dora", "emil"):
        world.add(name)
        world.mark(name, "carina", (10, 20, 90))

    def groups(seed):
        study = study_of(world, targets=["anna"], shots=(2,), draws=3, protocol=Protocol(seed=seed), absent=False)
        return [r.supports for r in study.retrievals]

    assert groups(0) == groups(0) and len(groups(0)) == len(set(groups(0))) <= 3
    assert all(len(group) == 2 for group in groups(0))
    assert any(groups(seed) != groups(0) for seed in (1, 2, 3))


def test_nothing_to_compare_is_said(world):
    world.add("anna")
    world.mark("anna", "carina", (10, 20, 90))
    world.add("bert")
    world.mark("bert", "hip", (10, 20, -90))
    with pytest.raises(EvaluationError, match="no target shares"):
        study_of(world)
