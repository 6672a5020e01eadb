"""The certificates of the port: read from files, and anew whenever those change, without a restart.

grpcio asks with every new connection; what cannot be read or does not fit then leaves the old ones in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc

from steelyard.telemetry.logs import Log


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the chain, its private key, and the authorities of clients (None: clients need no certificate)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_credentials(files: CertificateFiles, *, log: Log) -> grpc.ServerCredentials:
    """TLS, mTLS where there are authorities of clients. Raises `OSError` where a file cannot be read."""
    reloading = _Reloading(files, log)
    return grpc.dynamic_ssl_server_credentials(
        reloading.read(), cast(Any, reloading.ask), require_client_authentication=files.client_ca is not None
    )


class _Reloading:
    def __init__(self, files: CertificateFiles, log: Log) -> None:
        self._files = files
        self._log = log
        self._stamp = self._stamps()

    def read(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        roots = None if files.client_ca is None else files.client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def ask(self) -> grpc.ServerCertificateConfiguration | None:
        """What a new connection is to use; None: what the one before it used."""
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return None
            configuration = self.read()
        except OSError as error:
            self._log.error("certificates", problem=type(error).__name__)
            return None
        self._stamp = stamp
        self._log.info("certificates", is_new=True)
        return configuration

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        named = (self._files.certificate, self._files.key, self._files.client_ca)
        stats = [path.stat() for path in named if path is not None]
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)
