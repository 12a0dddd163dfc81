"""The trainer's own error."""

from APELocalizerLib.core.base.errors import APELocalizerError


class TrainingError(APELocalizerError):
    """A training cannot be set up or cannot go on: scans, landmarks, settings or the machine do not allow it."""
