"""APELocalizer: mark a landmark once on one CT, find it on any other. No import here, and no translation outside gui."""
