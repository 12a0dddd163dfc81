"""`python Testing/benchmarks`: see `program`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "APELocalizer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.program import main

if __name__ == "__main__":
    sys.exit(main())
