"""`python -m lib.lens --config x.yaml`: see `extract`."""

import sys

from lib.lens.extract import main

if __name__ == "__main__":
    sys.exit(main())
