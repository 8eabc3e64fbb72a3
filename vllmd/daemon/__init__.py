"""The `vllmd` program: its command line, and the place where everything is put together."""
