"""`python Testing/mutants`: see `command_line`."""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose files have names that other packages may have, too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutants.command_line import main

if __name__ == "__main__":
    sys.exit(main())
