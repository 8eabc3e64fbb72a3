"""Turns the report of `pip install --report` on standard input into a lock file on standard output.

Usage: pip install --dry-run --ignore-installed --report - ... | python lock.py HEADER [--first NAME] [--drop NAME ...]
"""

import argparse
import json
import re
import sys


def main() -> None:
    """Write `name==version` for all that pip would install, sorted, under *header*."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("header")
    parser.add_argument("--first", help="goes to the top, so that an installer that lacks it fails at once")
    parser.add_argument("--drop", nargs="*", default=[], help="left out")
    options = parser.parse_args()

    pins = {}
    for item in json.load(sys.stdin)["install"]:
        metadata = item["metadata"]
        pins[re.sub(r"[-_.]+", "-", metadata["name"]).lower()] = metadata["version"]
    for name in options.drop:
        pins.pop(name, None)

    print(f"# {options.header}")
    print("# Made by `make lock`; installed with --no-deps.")
    for name in sorted(pins, key=lambda name: (name != options.first, name)):
        print(f"{name}=={pins[name]}")


if __name__ == "__main__":
    main()
