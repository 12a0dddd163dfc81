"""Names of landmarks and organs as clinicians say them: "lung_apex_right" is the "right lung apex"."""

import re
from collections.abc import Iterable

SIDES = ("left", "right")
FOLLOWED_BY = ("of", "to", "from", "and", "or")
"""After one of these words a side is a direction or a list, as in "left of midline", and stays where it is."""


def spoken_name(name: str) -> str:
    """One name with blanks for underscores and its side in front: "kidney_right_center" → "right kidney center".

    A name without a side, with both sides, or with the side already in front keeps its order.
    """
    words = re.split(r"[_\s]+", name.strip().strip("_"))
    at = [index for index, word in enumerate(words) if word.lower() in SIDES]
    if len(at) == 1 and words[at[0] + 1 : at[0] + 2] != [] and words[at[0] + 1].lower() in FOLLOWED_BY:
        at = []
    if len(at) == 1 and at[0] > 0:
        words.insert(0, words.pop(at[0]).lower())
    if words[0].lower() == "vertebrae" and len(words) == 2:
        words = [words[1], "vertebra"]
    return " ".join(words)


def spoken_names(names: Iterable[str]) -> dict[str, str]:
    """Spoken name of each name. Names that would be spoken alike keep their own, so that none stands for another."""
    names = list(dict.fromkeys(names))
    spoken = {name: spoken_name(name) for name in names}
    said = list(spoken.values())
    return {name: text if said.count(text) == 1 else name for name, text in spoken.items()}
