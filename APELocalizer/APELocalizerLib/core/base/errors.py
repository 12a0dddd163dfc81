"""Errors a clinician can read.

Every error the package raises on purpose derives from `APELocalizerError`; its text is one or two sentences
that say what is wrong and what to do next, and is shown as it is by the panel and by the command line.
"""

import errno


class APELocalizerError(Exception):
    """Base of all errors raised on purpose."""


class ScanError(APELocalizerError):
    """The scan cannot be used: unreadable, empty, not CT, not three-dimensional, broken geometry."""


class PreparationError(APELocalizerError):
    """The scan was read, but no body could be prepared from it."""


class ModelError(APELocalizerError):
    """Network weights are missing, damaged, or not what they claim to be."""


class DeviceError(APELocalizerError):
    """The requested computing device does not exist or ran out of memory."""


class MapError(APELocalizerError):
    """An embedding map cannot be read, or a position outside it was asked for."""


class LibraryError(APELocalizerError):
    """A landmark library is damaged, too new, or would become inconsistent."""


class LearningError(APELocalizerError):
    """A landmark or organ cannot be learned from the given support."""


class LocalizationError(APELocalizerError):
    """The library and the scan's map do not belong together."""


class CorrespondenceError(APELocalizerError):
    """Two scans cannot be related to each other: they are the same, of other models, or share nothing."""


class ResultsError(APELocalizerError):
    """Results cannot be written where they are to go."""


class SceneError(APELocalizerError):
    """A node of the scene cannot be used."""


class Cancelled(APELocalizerError):
    """The user cancelled; nothing was changed."""

    def __init__(self, message: str = "Cancelled. Nothing was changed.") -> None:
        super().__init__(message)


class EvaluationError(APELocalizerError):
    """The annotations and scans do not allow the evaluation."""


class TrainingError(APELocalizerError):
    """A training cannot be set up or cannot go on: scans, landmarks, settings or the machine do not allow it."""


class AnnotationError(LearningError, EvaluationError, TrainingError):
    """Points, boxes, labels or a label map cannot be read, whatever they are read for."""


class UnexpectedError(APELocalizerError):
    """Something that nobody thought of: a fault of this software, to be reported."""


REPORT_AT = "https://github.com/APELocalizer/SlicerAPELocalizer/issues"
"""Where faults are reported."""


def in_a_sentence(error: Exception) -> APELocalizerError:
    """Any error as one that can be read: those raised on purpose as they are, others with what to do next."""
    if isinstance(error, APELocalizerError):
        return error
    if isinstance(error, MemoryError):
        return UnexpectedError("There is not enough memory. Close other programs, or choose a coarser spacing.")
    if isinstance(error, OSError) and error.strerror:
        name = error.filename or "A file"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            return UnexpectedError(f"{name} cannot be written: the disk is full. Free some space and try again.")
        return UnexpectedError(f"{name} cannot be read or written: {error.strerror}.")
    text = " ".join(str(error).split())[:200]
    return UnexpectedError(
        f"Something unexpected happened ({type(error).__name__}: {text}). Please report it, with how it came about, at "
        f"{REPORT_AT}"
    )
