"""Certificates: ours, made once; the server's, judged against a folder of trusted ones. Files, no network."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devicemesh.mapper import ConfigError, LinkError

YEARS = 20
"""How long our own certificate is valid: plants are not visited every year."""
MAX_CHAIN = 5


def load(path: Path) -> x509.Certificate:
    """Read a certificate, PEM or DER. Raises ConfigError."""
    try:
        raw = path.read_bytes()
        if b"-----BEGIN" in raw:
            return x509.load_pem_x509_certificate(raw)
        return x509.load_der_x509_certificate(raw)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no certificate: {error}") from error


def own(folder: Path, application_uri: str) -> tuple[Path, Path]:
    """Our certificate and its key in `<folder>/own`, made where there is none. Raises ConfigError."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", application_uri).strip("-") or "devicemesh"
    certificate, key = folder / "own" / f"{name}.der", folder / "own" / f"{name}.pem"
    if certificate.exists() and key.exists():
        return certificate, key
    try:
        (folder / "own").mkdir(parents=True, exist_ok=True)
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with contextlib.suppress(FileNotFoundError):
            key.unlink()
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        certificate.write_bytes(_signed(made, application_uri).public_bytes(serialization.Encoding.DER))
    except OSError as error:
        raise ConfigError(f"can't make a certificate in {folder / 'own'}: {error.strerror}") from error
    return certificate, key


def _signed(key: rsa.RSAPrivateKey, application_uri: str) -> x509.Certificate:
    """A self-signed application instance certificate (Part 6, 6.2.2)."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "DeviceMesh")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.UniformResourceIdentifier(application_uri), x509.DNSName(socket.gethostname())]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def check(link: str, folder: Path, certificate: bytes, application_uri: str | None, host: str) -> None:
    """Raise LinkError unless this server's certificate (DER) is trusted; where not, it is kept in `rejected`.

    Trusted is what lies in `<folder>/trusted` itself, or was issued by an authority that does. What was
    issued must also bear the host's name and the server's application URI. What a trusted authority has
    revoked, by a list in `<folder>/crl`, is refused in any case.
    """
    try:
        shown = x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise LinkError(f"{link} shows no readable certificate: {error}", reason="Untrusted") from error
    trusted = _all_in(folder / "trusted")
    revoked = _revoked(shown, trusted, _lists_in(folder / "crl"))
    if revoked is not None:
        raise LinkError(
            f"{link}: its certificate was revoked on {revoked:%Y-%m-%d} by the authority that issued it:"
            f" {_about(shown)}; the server needs a new one",
            reason="Revoked",
        )
    pinned = shown in trusted
    why = _time_problem(shown) if pinned or _issued(shown, trusted) else "is not trusted"
    if why is None and not pinned:
        why = _name_problem(shown, application_uri, host) or _usage_problem(shown)
    if why is None:
        return
    kept = _keep(folder / "rejected", shown)
    raise LinkError(
        f"{link}: its certificate {why}: {_about(shown)}; if it is the right one, trust it:"
        f" mv '{kept}' '{folder / 'trusted'}/'",
        reason="Untrusted",
    )


def _all_in(folder: Path) -> list[x509.Certificate]:
    """The certificates of a folder; it is made where it is not there, for people to find."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = []
    for path in files:
        with contextlib.suppress(ConfigError):  # another kind of file
            found.append(load(path))
    return found


def _issued(shown: x509.Certificate, trusted: Sequence[x509.Certificate]) -> bool:
    """Whether a chain of trusted authorities leads to it."""
    current = shown
    for _ in range(MAX_CHAIN):
        issuer = next((one for one in trusted if _signs(one, current)), None)
        if issuer is None:
            return False
        if _time_problem(issuer) is not None:
            return False
        if issuer.issuer == issuer.subject:
            return True
        current = issuer
    return False


def _lists_in(folder: Path) -> list[x509.CertificateRevocationList]:
    """The revocation lists (RFC 5280, 5) of a folder, PEM or DER. Raises ConfigError for one that is none."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            raw = path.read_bytes()
            pem = b"-----BEGIN" in raw
            found.append(x509.load_pem_x509_crl(raw) if pem else x509.load_der_x509_crl(raw))
        except (OSError, ValueError) as error:  # a list that can't be read must not let anybody in
            raise ConfigError(f"{path} is no revocation list: {error}") from error
    return found


def _revoked(
    shown: x509.Certificate,
    trusted: Sequence[x509.Certificate],
    lists: Sequence[x509.CertificateRevocationList],
) -> datetime.datetime | None:
    """When it, or one of the authorities above it, was revoked. An old list counts as well as a new one."""
    current = shown
    for _ in range(MAX_CHAIN):
        issuer = next((one for one in trusted if _signs(one, current)), None)
        if issuer is None:
            return None
        for one in lists:
            entry = one.get_revoked_certificate_by_serial_number(current.serial_number)
            if entry is not None and _is_by(one, issuer):
                return entry.revocation_date_utc
        if issuer.issuer == issuer.subject:
            return None
        current = issuer
    return None


def _is_by(one: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Whether an authority has signed this list."""
    key = issuer.public_key()
    if one.issuer != issuer.subject or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return False
    try:
        return one.is_signature_valid(key)
    except (ValueError, TypeError, InvalidSignature):
        return False


def _signs(authority: x509.Certificate, issued: x509.Certificate) -> bool:
    try:
        if not authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        issued.verify_directly_issued_by(authority)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return True


def _time_problem(shown: x509.Certificate) -> str | None:
    now = datetime.datetime.now(datetime.UTC)
    if now > shown.not_valid_after_utc:
        return f"expired on {shown.not_valid_after_utc:%Y-%m-%d}"
    if now < shown.not_valid_before_utc:
        return f"is not valid before {shown.not_valid_before_utc:%Y-%m-%d} (is this machine's clock right?)"
    return None


def _name_problem(shown: x509.Certificate, application_uri: str | None, host: str) -> str | None:
    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "bears no names"
    if application_uri and application_uri not in names.get_values_for_type(x509.UniformResourceIdentifier):
        return f"is not of {application_uri}"
    try:
        known = ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        known = host.lower() in (name.lower() for name in names.get_values_for_type(x509.DNSName))
    return None if known else f"is not of {host}"


def _usage_problem(shown: x509.Certificate) -> str | None:
    """Part 6, 6.2.2: where it says what it may be used for, a server must be among it."""
    with contextlib.suppress(x509.ExtensionNotFound):
        usages = shown.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
            return "is not for servers"
    return None


def _about(shown: x509.Certificate) -> str:
    common = shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(common[0].value) if common else shown.subject.rfc4514_string()
    return (
        f"{name}, SHA-1 {shown.fingerprint(hashes.SHA1()).hex()}, until {shown.not_valid_after_utc:%Y-%m-%d}"
    )


def _keep(folder: Path, shown: x509.Certificate) -> Path:
    """Lay the certificate where a person finds it."""
    path = folder / f"{shown.fingerprint(hashes.SHA1()).hex()}.der"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shown.public_bytes(serialization.Encoding.DER))
    return path
