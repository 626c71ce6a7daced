"""The control plane's certificate authority: short-lived certificates whose name decides who a peer is.

    archipel://site/hospital-a     a site (client certificates only)
    archipel://control             the control plane (server certificates only)

The identity is a URI in the subject alternative name (as in SPIFFE); the common name is for people. Time comes in as
an argument.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from archipel.security.audit import sign_head
from archipel.security.keys import PrivateKey, load_or_make_key, write_secret
from archipel.spec import TrustError
from archipel.spec.audit import SignedHead

SITE_LIFETIME = dt.timedelta(hours=24)
AUTHORITY_LIFETIME = dt.timedelta(days=3650)
CLOCK_TOLERANCE = dt.timedelta(minutes=5)
_SITE_PREFIX = "archipel://site/"
_CONTROL = "archipel://control"


class Authority:
    """A CA in a folder: `ca.key` (0600) and `ca.pem`."""

    def __init__(self, key: PrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def open(cls, folder: Path, now: dt.datetime) -> Authority:
        """Load the CA of `folder`, made there if there is none."""
        key = load_or_make_key(folder / "ca.key")
        path = folder / "ca.pem"
        if not path.exists():
            write_secret(path, _self_signed(key, now).public_bytes(serialization.Encoding.PEM))
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        if certificate.public_key() != key.public_key():
            raise TrustError(f"{path} does not belong to ca.key", hint="restore both from the same backup")
        return cls(key, certificate)

    @property
    def pem(self) -> str:
        """The CA's certificate, for peers to pin."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate, in hex; join tokens carry it."""
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    def certify_site(self, site: str, csr_pem: str, now: dt.datetime, lifetime: dt.timedelta = SITE_LIFETIME) -> str:
        """Return a client certificate (PEM) for `site`, for the key of the signing request.

        The request's own names are not looked at: who asks is known from the token or from the present certificate.

        Raises:
            TrustError: the request is not valid PEM, its signature fails, or its key is of another kind.
        """
        try:
            request = x509.load_pem_x509_csr(csr_pem.encode())
        except ValueError as error:
            raise TrustError("not a signing request", hint="join with `archipel join`") from error
        key = request.public_key()
        if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise TrustError("the signing request does not prove its key", hint="join with `archipel join`")
        names = [x509.UniformResourceIdentifier(_SITE_PREFIX + site)]
        return self._issue(site, key, names, ExtendedKeyUsageOID.CLIENT_AUTH, (now, lifetime))

    def certify_control(
        self, key: PrivateKey, names: Sequence[str], now: dt.datetime, lifetime: dt.timedelta = SITE_LIFETIME * 30
    ) -> str:
        """Return a server certificate (PEM) for the control plane under these host names and addresses."""
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(_CONTROL)]
        alternatives += [_host(name) for name in names]
        return self._issue(
            "archipel control", key.public_key(), alternatives, ExtendedKeyUsageOID.SERVER_AUTH, (now, lifetime)
        )

    def vouch(self, size: int, root: bytes, now: dt.datetime) -> SignedHead:
        """Sign the head of this control plane's audit log: `size` entries, `root` 32 bytes."""
        return sign_head(self._key, size, root, now.timestamp())

    def _issue(
        self,
        common_name: str,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        validity: tuple[dt.datetime, dt.timedelta],
    ) -> str:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(common_name, self._certificate.subject, key, *validity)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


def site_of(certificate_pem: bytes | str) -> str:
    """Return the site a (verified) peer certificate names.

    Raises:
        TrustError: it names no site, or more than one.
    """
    data = certificate_pem.encode() if isinstance(certificate_pem, str) else certificate_pem
    certificate = x509.load_pem_x509_certificate(data)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    sites = [
        uri.removeprefix(_SITE_PREFIX)
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier)
        if uri.startswith(_SITE_PREFIX)
    ]
    if len(sites) != 1:
        raise TrustError("the certificate names no site", hint="use the certificate that `archipel join` received")
    return sites[0]


def expiry_of(certificate_pem: str) -> tuple[dt.datetime, dt.datetime]:
    """Return from when and until when (UTC) a certificate is valid."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + lifetime)
    )


def _self_signed(key: PrivateKey, now: dt.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Archipel authority")])
    return (
        _builder("Archipel authority", name, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
