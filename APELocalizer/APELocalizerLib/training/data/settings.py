"""Settings of the data room: what is known of a run's scans, and which of them it trains on."""

from __future__ import annotations

from dataclasses import dataclass, field

from APELocalizerLib.training.data.average_patient import FrameModel


@dataclass(frozen=True)
class DataSettings:
    """Annotations of a run's scans.

    landmarks, boxes: CSV files. held_out: scans that only validation sees. frame: how patients may differ from the
    average one. takes_unlabelled: whether scans with few or no annotations are trained on, too.
    """

    landmarks: str | None = None
    boxes: str | None = None
    held_out: tuple[str, ...] = ()
    frame: FrameModel = field(default_factory=FrameModel)
    takes_unlabelled: bool = False
