"""Names under which nodes of the scene keep what belongs together. They are saved with scenes, so they never change."""

SCAN_REFERENCE = "APELocalizer.scan"
"""Node reference role that leads from each result node and overlay to its scan."""

MADE_OF_ATTRIBUTE = "APELocalizer.MadeOf"
"""Attribute of an overlay: a digest of the scan and the settings that it was made with."""

HIDDEN_ATTRIBUTE = "APELocalizer.HiddenWithItsScan"
"""Set while a node is hidden because another scan is in view; one that the user hid lacks it, and stays hidden."""

RUN_ATTRIBUTE = "APELocalizer.Results"
"""Attribute of a result folder's item: the ids of the nodes that the run put into it, separated by blanks."""
