"""`python -m vllmd` is `vllmd`."""

import sys

from vllmd.daemon import main

sys.exit(main())
