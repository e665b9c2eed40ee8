"""``python -m memchannel``."""

import sys

from memchannel.cli import main

if __name__ == "__main__":
    sys.exit(main())
