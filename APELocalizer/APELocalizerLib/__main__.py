"""`python -m APELocalizerLib`, installed as `ape-localizer`."""

import sys

from APELocalizerLib.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
