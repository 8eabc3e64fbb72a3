"""`python -m vllmd` is `vllmd`."""

import sys

from vllmd.daemon.main import main

sys.exit(main())
