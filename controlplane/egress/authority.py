"""The certificate authority of a control plane: it stands for the hosts that secrets may be sent to."""

import ipaddress
import os
import ssl
import tempfile
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.keys import store_secret

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_NAME = "sandbox-toolbox egress"
_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 30
_SLACK = timedelta(days=1)
"""Clocks differ."""
_KEPT = 256
"""Hosts whose certificates are kept ready."""
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Authority:
    """Makes certificates of hosts, for programs that trust `bundle`. All calls block, and belong in one thread."""

    def __init__(self, key: "ec.EllipticCurvePrivateKey", certificate: "x509.Certificate") -> None:
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        self._key = key
        self._certificate = certificate
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[tuple[str, date], ssl.SSLContext] = OrderedDict()

    @classmethod
    def open(cls, path: Path) -> "Authority":
        """Return the authority kept in `path` (0600), or a new one. Raises `OSError`, `ValueError`."""
        from cryptography import x509  # noqa: PLC0415 -- heavy
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        if path.exists():
            data = path.read_bytes()
            key = serialization.load_pem_private_key(data, None)
            certificate = x509.load_pem_x509_certificate(data)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError(f"not a key of ours: {path}")
            if certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=2 * _LEAF_DAYS):
                return cls(key, certificate)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _authority_certificate(key)
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        store_secret(path, (text + certificate.public_bytes(serialization.Encoding.PEM)).decode().strip())
        return cls(key, certificate)

    def write_bundle(self, path: Path) -> None:
        """Write what this machine trusts, and this authority, to a file that everybody may read. Raises `OSError`."""
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

        own = self._certificate.public_bytes(Encoding.PEM)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(_system_certificates() + b"\n" + own)
        temporary.chmod(0o644)
        temporary.replace(path)

    def context(self, host: str) -> ssl.SSLContext:
        """Return the TLS settings of a server that stands for `host` (a name or an address). Raises `OSError`."""
        place = (host, datetime.now(UTC).date())
        found = self._contexts.get(place)
        if found is None:
            found = self._contexts[place] = self._made(host)
            if len(self._contexts) > _KEPT:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(place)
        return found

    def _made(self, host: str) -> ssl.SSLContext:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        pem = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ) + self._leaf(host).public_bytes(serialization.Encoding.PEM)
        # The library only loads files: this one is 0600 and at once gone.
        descriptor, name = tempfile.mkstemp()
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
            context.load_cert_chain(name)
        finally:
            Path(name).unlink()
        return context

    def _leaf(self, host: str) -> "x509.Certificate":
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectAlternativeName([name]), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]
        builder = _builder(_LEAF_DAYS).subject_name(x509.Name([])).issuer_name(self._certificate.subject)
        builder = builder.public_key(self._leaf_key.public_key())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())


def _authority_certificate(key: "ec.EllipticCurvePrivateKey") -> "x509.Certificate":
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    # Two authorities of one name and different keys would confuse who trusts both.
    common_name = f"{_NAME} {os.urandom(4).hex()}"
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(_AUTHORITY_DAYS).subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


def _builder(days: int) -> "x509.CertificateBuilder":
    from cryptography import x509  # noqa: PLC0415

    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _SLACK).not_valid_after(now + timedelta(days=days))


def _system_certificates() -> bytes:
    """Return the certificates that this machine trusts, none if they are not in a file."""
    for path in (ssl.get_default_verify_paths().cafile, *_SYSTEM_BUNDLES):
        if path is not None and Path(path).is_file():
            return Path(path).read_bytes()
    return b""
