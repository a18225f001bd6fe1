"""A certificate authority of the tests' own, and what it signs or should not have."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
HERE = ["localhost", "127.0.0.1"]


class Authority:
    """Makes certificates into a directory; `ca.pem` is what a client has to trust."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = named("Slipway tests")
        self.ca = directory / "ca.pem"
        self._write(self.ca, self._certificate(self.key, self.name, [], age=0, ca=True))

    def context(self, name: str, *, hosts: list[str] = HERE, age: int = 0, self_signed=False):
        """A server's context; `age` in days, past the certificate's 30 days of life or not."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = named(name) if self_signed else self.name
        certificate = self._certificate(
            key, named(name), hosts, age=age, issuer=issuer, signer=key if self_signed else None
        )
        path = self.directory / f"{name}.pem"
        self._write(path, certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _certificate(self, key, subject, hosts, *, age, issuer=None, signer=None, ca=False):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - age * DAY - DAY)
            .not_valid_after(now - age * DAY + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([alternative(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signer or self.key, hashes.SHA256())

    def _write(self, path: Path, certificate, key=None) -> None:
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        if key is not None:
            pem += key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        path.write_bytes(pem)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
