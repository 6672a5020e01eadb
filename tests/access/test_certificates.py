"""The port over TLS: with certificates that change while it serves, and with clients that must show their own."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest
import trustme
from pydantic import SecretStr

from steelyard.app.assembly import Service
from steelyard.client import Steelyard, SteelyardCallError
from steelyard.operations.access import Scope
from tests.access.desk import PEPPER, guarded, new_key


def write(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """A certificate of an authority for the port, as files."""
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "port.pem", folder / "port.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return {"tls_certificate": certificate, "tls_key": key}


def shown_by(service: Service) -> bytes:
    """The certificate that the port shows to a new connection."""
    host, _, port = service.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port))).encode()


async def test_calls_go_over_tls_and_plain_ones_do_not(database_url: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    key = await new_key(database_url, Scope.POSITIONS_READ)
    async with guarded(database_url, **write(authority, tmp_path)) as service:
        pem = authority.cert_pem.bytes()
        async with Steelyard.connect(service.address, api_key=key.secret, authorities=pem) as steelyard:
            assert [position async for position in steelyard.list_positions()] == []
        for wrong in (None, trustme.CA().cert_pem.bytes()):
            async with Steelyard.connect(service.address, api_key=key.secret, authorities=wrong, timeout_s=1) as plain:
                with pytest.raises(SteelyardCallError):
                    assert [position async for position in plain.list_positions()] == []


async def test_a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(
    database_url: str, tmp_path: Path
) -> None:
    files = write(trustme.CA(), tmp_path)
    async with guarded(database_url, **files) as service:
        first = await asyncio.to_thread(shown_by, service)
        write(trustme.CA(), tmp_path)
        second = await asyncio.to_thread(shown_by, service)
        assert second != first
        assert second.strip() == files["tls_certificate"].read_bytes().strip()
        files["tls_certificate"].unlink()
        assert await asyncio.to_thread(shown_by, service) == second


async def test_clients_must_show_a_certificate_where_authorities_of_clients_are_named(
    database_url: str, tmp_path: Path
) -> None:
    authority, clients = trustme.CA(), trustme.CA()
    ca_file = tmp_path / "clients.pem"
    ca_file.write_bytes(clients.cert_pem.bytes())
    mine = clients.issue_cert("trader")
    files = write(authority, tmp_path)
    async with guarded(
        database_url, api_keys="off", key_pepper=SecretStr(PEPPER), tls_client_ca=ca_file, **files
    ) as service:
        known = grpc.ssl_channel_credentials(
            authority.cert_pem.bytes(),
            private_key=mine.private_key_pem.bytes(),
            certificate_chain=b"".join(blob.bytes() for blob in mine.cert_chain_pems),
        )
        async with Steelyard.connect(service.address, credentials=known) as steelyard:
            assert [position async for position in steelyard.list_positions()] == []
        pem = authority.cert_pem.bytes()
        async with Steelyard.connect(service.address, authorities=pem, timeout_s=1) as stranger:
            with pytest.raises(SteelyardCallError):
                assert [position async for position in stranger.list_positions()] == []
