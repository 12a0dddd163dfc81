"""Settings of the data room: which scans a run uses, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from APELocalizerLib.training.data.average_patient import FrameModel


@dataclass(frozen=True)
class DataSettings:
    """Scans and annotations of a run.

    Attributes:
        scans: files and folders of CT scans; they are prepared once into `cache` (default: in the output folder).
        folder: instead of `scans`, a folder laid out as train/, labels/ and annotations/.
        landmarks, boxes: CSV files with annotations of some of the `scans`.
        more_landmarks: a further table like annotations/landmarks.csv of `folder`.
        held_out: scans (of `folder`: patients) that only validation sees. excluded: scans that are not used at all.
        frame: how much patients may differ from the average patient.
        synthetic_share: how often a crop is painted from a label map instead of taken from a CT.
    """

    scans: tuple[str, ...] = ()
    folder: str = ""
    landmarks: str | None = None
    boxes: str | None = None
    more_landmarks: str | None = None
    cache: str | None = None
    held_out: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    frame: FrameModel = field(default_factory=FrameModel)
    synthetic_share: float = 0.22

    @property
    def is_laid_out(self) -> bool:
        """Whether the scans come with their annotations in one folder."""
        return not self.scans
