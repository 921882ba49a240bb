"""The certificate authority of this machine, made once: what clients trust to reach the object storage over TLS.

Imported only where it is used: `cryptography` is an optional extra.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.keys import store_secret
from toolbox.config import ConfigError

_YEARS = 10
_LEAF_DAYS = 397
_BACKDATED = timedelta(hours=1)
"""Clocks of containers and machines differ."""


class Authority:
    """A CA in a directory: `ca.pem`, and `ca.key`, which nobody else can read. All methods block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._certificate = directory / "ca.pem"
        self._key = directory / "ca.key"

    def open(self) -> str:
        """Return the CA's certificate (PEM), made if there is none. Raises `ConfigError`."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._certificate.exists():
                self._make()
            return self._certificate.read_text()
        except OSError as error:
            raise ConfigError(f"cannot keep the certificate authority: {error}") from None

    def server_context(self, names: list[str]) -> ssl.SSLContext:
        """Return what serves TLS under these host names and addresses, with a new certificate.

        Raises `ConfigError`.
        """
        certificate, key = self._issue(names)
        file = self._directory / "server.pem"
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            store_secret(file, key + certificate)
            context.load_cert_chain(file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot serve TLS: {error}") from None
        return context

    def _make(self) -> None:
        key = _new_key()
        made = _certificate(_name(f"sandbox-toolbox CA {os.urandom(4).hex()}"), key, None, [])
        # The certificate last: where it is, the key is too.
        store_secret(self._key, _key_text(key))
        store_secret(self._certificate, _pem(made))

    def _issue(self, names: list[str]) -> tuple[str, str]:
        try:
            authority = x509.load_pem_x509_certificate(self._certificate.read_bytes())
            authority_key = serialization.load_pem_private_key(self._key.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot use the certificate authority in {self._directory}: {error}") from None
        key = _new_key()
        made = _certificate(_name("sandbox-toolbox"), key, (authority, authority_key), names)
        return _pem(made), _key_text(key)


async def names_of(host: str, *more: str) -> list[str]:
    """Return the names and addresses that a server listening on `host` is known by, `more` of them given."""
    own = socket.gethostname()
    found = {"localhost", "127.0.0.1", "::1", own, *filter(None, more)}
    if host not in ("", "0.0.0.0", "::"):
        return sorted(found | {host})
    try:
        known = await asyncio.get_running_loop().getaddrinfo(own, None)
    except OSError:
        known = []
    return sorted(found | {str(each[4][0]).partition("%")[0] for each in known})


def _certificate(subject: Any, key: Any, issuer: tuple[Any, Any] | None, names: list[str]) -> Any:
    """Return a signed certificate: of a CA when there is no issuer, else of a server."""
    now = datetime.now(UTC)
    ca, ca_key = issuer or (None, key)
    lifetime = timedelta(days=_LEAF_DAYS if ca is not None else 365 * _YEARS)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(
            x509.BasicConstraints(ca=ca is None, path_length=0 if ca is None else None),
            critical=True,
        )
        .add_extension(_usage(authority=ca is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if ca is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    return builder.sign(ca_key, SHA256())


def _usage(*, authority: bool) -> Any:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> Any:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _new_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def _key_text(key: Any) -> str:
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


def _pem(certificate: Any) -> str:
    text: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return text.decode()
