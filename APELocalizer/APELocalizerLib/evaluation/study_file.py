"""The study file: JSON that names the cases of a study, so that the command need not."""

from pathlib import Path

from APELocalizerLib.core.base.errors import EvaluationError
from APELocalizerLib.core.base.packed import load_json

STUDY_KEYS = ("title", "targets", "supports", "patients", "pictures")
"""What a study file may have: its title, and lists of case ids or, for patients, of prefixes of them."""


def read_study_file(path: Path) -> dict[str, object]:
    """The entries of a study file; raises `EvaluationError` for one that is damaged or holds anything else."""
    try:
        content = load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"The study {path} cannot be read as JSON ({error}).") from error
    unknown = sorted(set(content) - set(STUDY_KEYS)) if isinstance(content, dict) else ["no names"]
    if unknown:
        raise EvaluationError(f"{path.name} may have {', '.join(STUDY_KEYS)}, but it has {unknown[0]}.")
    for key, value in content.items():
        _check_entry(path, key, value)
    return content


def _check_entry(path: Path, key: str, value: object) -> None:
    """Refuse an entry of a study file that is not what its name promises; null stands for nothing said."""
    if value is None:
        return
    if key == "title":
        if not isinstance(value, str):
            raise EvaluationError(f'{path.name}: title must be a text, for example "My study".')
    elif not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise EvaluationError(f'{path.name}: {key} must be a list of texts, for example ["anna", "bert"].')
    elif not value and key in ("targets", "supports"):
        raise EvaluationError(f"{path.name}: {key} names no case. Name one, or leave it out to take all.")
