"""`python -m vllmd.cli`, where the console script is not on the PATH."""

from vllmd.cli.main import main

main()
