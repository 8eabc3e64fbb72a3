"""Another program that uses vLLM: a launcher, the core that it started, and the core's worker.

Run as a script with a role, the path to listen on (`tcp` is loopback), what the client is called, and the user to
become, if any. Each process prints `NAME PID`. The launcher listens as vLLM's front end does and the core connects, so
that a connection ties the two.

| role | what becomes of the launcher's end of the connection |
|---|---|
| `serving` | the launcher alone holds it |
| `shared` | a client, in a session of its own, holds it too, and survives the launcher |
| `group` | the worker of a second core holds it too, as one of a data-parallel engine does |
| `renaming` | as `serving`; the core becomes somebody else, under another name, when it gets SIGUSR1 |
"""

import ctypes
import os
import signal
import socket
import sys

PR_SET_NAME = 15


def tell(name: str) -> None:
    """Print this process's name and pid, in one write."""
    os.write(1, f"{name} {os.getpid()}\n".encode())


def wait() -> None:
    """Stay until a signal ends this process."""
    while True:
        signal.pause()


def rename(name: str) -> None:
    """Be called so. `/proc/self/comm` is root's once a process has become somebody else."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def core(role: str, listener: socket.socket) -> None:
    """Be the core, with a worker below it."""
    if role == "renaming":
        signal.signal(signal.SIGUSR1, lambda *_: rename("somebody-else"))
    rename("VLLM::EngineCore")
    connection = socket.socket(listener.family)
    connection.connect(listener.getsockname())
    listener.close()
    if os.fork() == 0:
        connection.close()
        rename("VLLM::Worker_TP0")
        tell("worker")
        wait()
    tell("core")
    wait()


def second_core(connection: socket.socket) -> None:
    """Be another core, whose worker has the connection."""
    rename("VLLM::EngineCore")
    tell("second")
    if os.fork() == 0:
        rename("VLLM::Worker_TP0")
        tell("client")
        wait()
    connection.close()
    wait()


def main(role: str, path: str, client_name: str, user: str) -> None:
    """Be the launcher."""
    if user:
        os.setuid(int(user))
    listener = socket.socket(socket.AF_INET if path == "tcp" else socket.AF_UNIX)
    listener.bind(("127.0.0.1", 0) if path == "tcp" else path)
    listener.listen()
    tell("launcher")
    if os.fork() == 0:
        core(role, listener)
    accepted, _ = listener.accept()
    if role == "group" and os.fork() == 0:
        listener.close()
        second_core(accepted)
    if role == "shared" and os.fork() == 0:
        listener.close()
        os.setsid()
        if client_name:
            rename(client_name)
        tell("client")
    else:
        listener.close()
    wait()
    del accepted


if __name__ == "__main__":
    main(*sys.argv[1:])
