"""Who may run: leases, engines by wish, and one voluntary operation at a time on each GPU.

`scheduler` is the single writer: everything it decides is decided in synchronous methods on the event loop,
so nothing can change between a look and the deed.
"""
