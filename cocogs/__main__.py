"""`python -m cocogs`."""

import sys

from cocogs.cli import main

sys.exit(main())
