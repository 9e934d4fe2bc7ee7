"""`python -m tijepa` is the command `tijepa`."""

from __future__ import annotations

import sys

from tijepa.cli import main

if __name__ == "__main__":
    sys.exit(main())
