"""How far off an answer may be: an expected error and a 90 % radius in mm, and a grade.

The round trip is a consistency check: an answer may be consistent and still wrong. So errors were measured on patients
with known landmarks, each with supports of other patients and a reference without the patient, and tabulated against
what is known of an answer: how far its round trip misses the click, by coordinates and by the image, and how far apart
the likely steps of the refinement lie. All of these only ever raise the expected error. The table is of one model; of
another model's answers the expected error is unknown.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.resources import resources_folder

SURE, CHECK, NOT_FOUND_GRADE = "sure", "check", "not found"
GRADES = (SURE, CHECK, NOT_FOUND_GRADE)

SURE_RADIUS_MM = 25.0
"""An answer is sure if the true place lies within this distance in 9 of 10 such answers."""

BEYOND_MM, BORDER_MM = 5.0, 20.0
"""An answer this close to the scan's border whose coordinates miss those looked for by more lies beyond the border."""

TABLE = resources_folder() / "Models" / "confidence.json"
"""The measured errors; the file says on which answers they were measured."""


@dataclass(frozen=True)
class Confidence:
    """Half of such answers are off by less than `expected_error_mm`, 9 of 10 by less than `radius_90_mm`."""

    expected_error_mm: float = float("nan")
    radius_90_mm: float = float("nan")

    @property
    def grade(self) -> str:
        """The grade of an answer that was found."""
        return SURE if self.radius_90_mm <= SURE_RADIUS_MM else CHECK


UNKNOWN = Confidence()
"""Of answers of another model, or that were not refined by the image."""


@dataclass(frozen=True)
class Signals:
    """What is known of n answers, each (n,) mm: how far from the click the round trip ends by the coordinates
    (`coordinates_mm`) and by the image (`image_mm`), and how far apart the likely steps lie (`steps_mm`). NaN where
    nothing was compared."""

    coordinates_mm: np.ndarray
    image_mm: np.ndarray
    steps_mm: np.ndarray

    @cached_property
    def features(self) -> np.ndarray:
        """Logarithms (n, 3), so that the tenth millimeter more counts less than the first."""
        return np.log1p(np.stack([self.coordinates_mm, self.image_mm, self.steps_mm], axis=1))


@dataclass(frozen=True)
class Calibration:
    """Measured errors of one kind of answers: weights (3,) of the signals, and at rising scores (k,) the errors mm."""

    weights: np.ndarray
    scores: np.ndarray
    expected_error_mm: np.ndarray
    radius_90_mm: np.ndarray

    def confidence(self, features: np.ndarray) -> Confidence:
        """Of an answer with these features (3,); unknown where one of them is."""
        score = float(features @ self.weights)
        if not np.isfinite(score):
            return UNKNOWN
        expected, radius = (np.interp(score, self.scores, mm) for mm in (self.expected_error_mm, self.radius_90_mm))
        return Confidence(float(expected), float(radius))


@dataclass(frozen=True)
class Calibrations:
    """Measured errors of answers from one shot, and from several."""

    one: Calibration
    several: Calibration

    def confidence(self, features: np.ndarray, shots: int) -> Confidence:
        """Of an answer with these features (3,) from so many shots."""
        return (self.one if shots == 1 else self.several).confidence(features)


def read_calibrations(model_id: str, path: Path = TABLE) -> Calibrations | None:
    """The table of a model; None if there is none."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if content.get("model_id") != model_id:
        return None
    names = "weights", "scores", "expected_error_mm", "radius_90_mm"
    one, several = (Calibration(*(np.array(content[kind][name]) for name in names)) for kind in ("one", "several"))
    return Calibrations(one, several)


def lies_beyond(distance: float, to_border_mm: float) -> bool:
    """Whether a position was found at the border only because what was looked for lies beyond it.

    `distance`: between the embedding looked up and the one met; `to_border_mm`: from the position to the nearest side
    of the field of view.
    """
    return distance > BEYOND_MM and to_border_mm < BORDER_MM
