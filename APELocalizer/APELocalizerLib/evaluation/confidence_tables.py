"""Tables of how well the confidence tells good answers from bad: "not found", and the round trip. Lengths in mm."""

from collections.abc import Sequence

import numpy as np

from APELocalizerLib.evaluation.markdown_tables import number, table
from APELocalizerLib.evaluation.measures import main_rows, reliability_bins, shots_text, used_shots, with_round_trip
from APELocalizerLib.evaluation.metrics import auc, best_threshold, rank_correlation
from APELocalizerLib.evaluation.retrieval_table import Retrieval
from APELocalizerLib.evaluation.study import Study


def not_found_table(study: Study) -> list[str]:
    """Sensitivity, specificity and AUC, for landmarks, centers and boxes."""
    rows = []
    for shots in used_shots(study):
        for kind in ("landmark", "center", "box"):
            inside, outside = main_rows(study, kind, shots), main_rows(study, f"absent {kind}", shots)
            if not inside or not outside:
                continue
            round_trips = _round_trips(inside), _round_trips(outside)
            threshold, kept, refused = best_threshold(*round_trips)
            rows.append(
                [
                    f"{kind}, {shots_text(shots)}",
                    f"{len(inside)} / {len(outside)}",
                    f"{auc(*round_trips):.3f}",
                    f"{np.mean([row.found for row in inside]):.3f}",
                    f"{np.mean([not row.found for row in outside]):.3f}",
                    f"{threshold:.1f} mm: {kept:.3f} / {refused:.3f}",
                ]
            )
    header = ["", "inside / cropped away", "AUC", "sensitivity", "specificity", "best balanced threshold: both"]
    return table(header, rows) if rows else []


def auc_text(study: Study, shots: int) -> str:
    """The AUC of "not found" for landmarks, by their round trip; a dash where nothing was cropped away."""
    inside, outside = main_rows(study, "landmark", shots), main_rows(study, "absent landmark", shots)
    if not inside or not outside:
        return "–"
    return f"{auc(_round_trips(inside), _round_trips(outside)):.3f}"


def reliability_table(study: Study) -> list[str]:
    """Real error of the landmarks by their round trip, for every number of supports."""
    lines = []
    for shots in used_shots(study):
        rows = with_round_trip(main_rows(study, "landmark", shots))
        if not rows:
            continue
        cells = [
            [_bin_text(low, high), str(len(e)), f"{e.mean():.1f}", f"{np.median(e):.1f}", f"{np.quantile(e, 0.9):.1f}"]
            for low, high, e in reliability_bins(rows)
        ]
        rank = rank_correlation(_round_trips(rows), np.array([row.error_mm for row in rows]))
        lines += ["", f"{shots_text(shots).capitalize()} (rank correlation {number(rank, 2)}):", ""]
        lines += table(["round trip, mm", "n", "mean error", "median", "90 %"], cells)
    return lines


def _round_trips(rows: Sequence[Retrieval]) -> np.ndarray:
    return np.array([row.round_trip_mm for row in rows])


def _bin_text(low: float, high: float) -> str:
    return f"over {low:.0f}" if np.isinf(high) else f"{low:.0f} to {high:.0f}"
