"""The shell of the doctor: reads the facts that the modules beside it judge, and judges nothing itself.

A fact is read as this user, in this process's cgroup and namespaces. What a read can't tell is `None`, never 0.
"""
