"""The certificate that the daemon shows on TCP, and by whom its clients' must be issued; new files count at once.

gRPC asks before each handshake. What can't be used then changes nothing: connections go on with what was in force, and
the log says why, once for each change.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import ssl

import grpc

from vllmd.errors import NotPossible

_log = logging.getLogger("vllmd")


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """Where the parts are, all in PEM."""

    certificate: pathlib.Path
    """With those that it was issued by, but for the root."""
    key: pathlib.Path
    """Without a passphrase, as nobody is there to type it."""
    client_ca: pathlib.Path | None = None
    """By whom clients' certificates are issued; `None` asks for none."""

    def look(self) -> tuple[tuple[int, int, int], ...]:
        """Tell one content from another without reading it; raises `OSError`."""
        found = [path.stat() for path in (self.certificate, self.key, self.client_ca) if path is not None]
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)


def read(files: Files) -> grpc.ServerCertificateConfiguration:
    """Read what is there, and check that it goes together: gRPC would say nothing, and refuse each handshake.

    Raises:
        NotPossible: it can't be used.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")  # or OpenSSL asks the terminal
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        roots = files.client_ca.read_bytes() if files.client_ca is not None else None
    except (OSError, ValueError) as error:  # also OpenSSL's, which does not name the file
        names = ", ".join(str(path) for path in (files.certificate, files.key, files.client_ca) if path is not None)
        message = f"The certificate for TCP can't be used ({error}): see that {names} are PEM and belong together."
        raise NotPossible("TLS_UNUSABLE", message, files=names) from error
    return grpc.ssl_server_certificate_configuration([pair], roots)


class Certificates:
    """What is in force, and looks for newer files at each handshake.

    Raises:
        NotPossible: they can't be used from the start.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._seen = self._look()
        self._first = read(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Make gRPC's form of it."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self.newer,  # type: ignore[arg-type]  # `None` for no change is documented, and forgotten by the stubs
            require_client_authentication=self._files.client_ca is not None,
        )

    def newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Read the files if they have changed since the last look, and can be used; called in a thread of gRPC's."""
        now = self._look()
        if now == self._seen:
            return None
        self._seen = now
        try:
            found = read(self._files)
        except NotPossible as error:
            _log.error("connections go on with the certificate that is in force: %s", error.message)
            return None
        _log.info("connections are made with a new certificate from now on: %s", self._files.certificate)
        return found

    def _look(self) -> tuple[tuple[int, int, int], ...] | None:
        try:
            return self._files.look()
        except OSError:
            return None  # in the middle of a change, or gone: to read it says which
