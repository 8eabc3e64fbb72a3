"""Chaos: a real daemon on a simulated host, real processes, and a monkey that kills and stops any of them.

`python -m tests.chaos --minutes 60` runs it for long; `make test` runs a short one with a fixed seed.
"""
