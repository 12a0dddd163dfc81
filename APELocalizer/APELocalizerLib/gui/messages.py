"""How the panel reports an error: ours as the sentence it is, any other with its details for a bug report."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.core.base.errors import APELocalizerError


def show_error(error: Exception) -> None:
    """Show what went wrong."""
    if isinstance(error, APELocalizerError):
        slicer.util.errorDisplay(str(error))
        return
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    text = _("Something unexpected went wrong ({error}). Nothing was changed. The details help to report it.")
    slicer.util.errorDisplay(text.format(error=error), detailedText=details)


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show errors of what is done inside instead of raising them: for slots, which have no caller to raise to."""
    try:
        yield
    except Exception as error:
        show_error(error)
