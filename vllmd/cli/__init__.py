"""`vllmd-cli`: what a person or a script types at a daemon.

One file per noun, each a command that calls `vllmd.client`, prints, and nothing more. Results go to stdout,
everything about how it goes to stderr. Modules import gRPC and rich inside their commands, so that `--help`
and shell completion answer at once.
"""
