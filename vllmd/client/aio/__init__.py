"""The client for asyncio: the same methods under the same names, to be awaited.

Requests, answers, errors, and what is decided about failures and leases are the synchronous client's; only what waits
is here.
"""
