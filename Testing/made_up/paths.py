"""Where the tests find the repository's own files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "APELocalizer"
SAMPLES = ROOT / "Resources" / "SampleData"
DATA = ROOT / "Testing" / "data"
