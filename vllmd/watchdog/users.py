"""Who uses a tree, when others that were left behind with it are connected with it and with each other.

The cores of one data-parallel engine talk with each other and with their coordinator, over Unix sockets and over TCP.
When all of them have lost their launcher, none keeps another alive; yet when somebody still uses one of them, he uses
them all. So the whole group is looked at as one tree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from vllmd.watchdog.sockets import Connection


def users(
    tree: Collection[int],
    outside: Callable[[Collection[int]], list[Connection] | None],
    left_behind: Callable[[int], Collection[int]],
) -> list[Connection] | None:
    """List the connections by which somebody uses a tree, or what was left behind with it.

    Args:
        tree: the process ids of the tree.
        outside: lists the connections that lead out of a group; `None` if that can't be found out.
        left_behind: lists the tree that a process is in, if that was left behind and by itself serves nobody.

    Returns:
        Those that lead to anybody else, or to who is not known; `None` if that can't be found out.
    """
    group = set(tree)
    while True:
        found = outside(group)
        if found is None:
            return None
        more = {pid for one in found if one.holder is not None for pid in left_behind(one.holder.pid)}
        if more <= group:
            return found
        group |= more
