"""APELocalizer: mark a landmark once on one CT, find it on any other. No import, and no translation outside gui."""
