"""One engine: its life, its processes, and what passes between them and the daemon.

`state` decides what follows from what (pure); `supervisor` does it, one object for each engine, and is the
only writer of that engine's state. `process` starts the tree, `link` talks with it, `reclaim` ends it and
proves that it is gone. Nothing in here knows of clients or leases.
"""
