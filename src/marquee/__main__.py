"""`python -m marquee` is `marquee`."""

import sys

from marquee.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
