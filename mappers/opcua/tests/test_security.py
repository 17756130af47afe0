"""Secured endpoints, certificates that are trusted or not, identities; all certificates are made here."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from devicemesh_opcua import certificates, channel
from devicemesh_opcua.session import open_session

from devicemesh.mapper import AuthError, Batch, ConfigError, LinkError, Write
from devicemesh.testing.contract import poll, rows

SERVER_URI = "urn:test:plant"
POLICIES = ["NoSecurity"] + [
    f"{policy}_{mode}"
    for policy in ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
    for mode in ("Sign", "SignAndEncrypt")
]


class Authority:
    """Signs certificates; without one they sign themselves."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = build(self.key, self.key, self.name, self.name, ca=True)


def build(
    key: Any,
    signer: Any,
    subject: x509.Name,
    issuer: x509.Name,
    *,
    ca: bool = False,
    uri: str = SERVER_URI,
    host: str = "127.0.0.1",
    days: int = 10,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(True, True, True, True, False, ca, ca, False, False)
    names = [x509.UniformResourceIdentifier(uri), x509.IPAddress(ipaddress.ip_address(host))]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=20))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA256())
    )


SECRETS = {"plc": "s3cret", "old": "wrong"}


def secrets(ref: Any) -> str:
    """As the runtime reads them."""
    if ref.name not in SECRETS:
        raise AuthError(f"there is no secret {ref.name}/{ref.key}", reason="SecretMissing")
    return SECRETS[ref.name]


def write(folder: Path, certificate: x509.Certificate, key: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    der, pem = folder / "server.der", folder / "server.pem"
    der.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return {"certificate": str(der), "private_key": str(pem), "application_uri": SERVER_URI}


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def secured(tmp_path: Path, key: Any) -> Callable[..., dict[str, Any]]:
    """Options of a secured server; `trust` is the file to lay into `trusted`."""

    def made(authority: Authority | None = None, **fields: Any) -> dict[str, Any]:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Plant server")])
        signer = authority.key if authority else key
        shown = build(key, signer, name, authority.name if authority else name, **fields)
        return {"policies": POLICIES, **write(tmp_path / "server", shown, key)}

    return made


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
def test_every_policy_reads_and_writes(
    serve_plant: Any, point: Any, run: Any, secured: Any, tmp_path: Path, policy: str, mode: str
) -> None:
    async def work() -> None:
        async with serve_plant(**secured()) as plant:
            (tmp_path / "pki/trusted").mkdir(parents=True)
            shutil.copy(tmp_path / "server/server.der", tmp_path / "pki/trusted")
            await plant.add("x", 1, "Int32")
            endpoint = plant.endpoint(security_policy=policy, security_mode=mode, pki=str(tmp_path / "pki"))
            one = point(0, endpoint, "int32", "x")
            async with open_session(endpoint) as session:
                assert (await poll(session, [one]))[0].value == 1
                assert (await session.write([Write(one, 2)]))[0].value == 2
                batch = await anext(batches := session.subscribe([one]))
                assert list(batch.value) == [2]
                await batches.aclose()

    run(work())


def test_an_untrusted_server_is_refused_with_the_mend(
    serve_plant: Any, run: Any, secured: Any, tmp_path: Path
) -> None:
    async def work() -> None:
        async with serve_plant(**secured()) as plant:
            pki = tmp_path / "pki"
            endpoint = plant.endpoint(security_policy="Basic256Sha256", pki=str(pki))
            with pytest.raises(LinkError) as caught:
                async with open_session(endpoint):
                    pytest.fail("opened")
            assert caught.value.reason == "Untrusted"
            assert "its certificate is not trusted: Plant server, SHA-1 " in str(caught.value)
            _, kept, _, trusted, _ = str(caught.value).split("'")
            shutil.move(kept, trusted)  # as it says
            async with open_session(endpoint):
                pass

    run(work())


def test_what_an_authority_issued_is_trusted_if_it_bears_the_names(
    serve_plant: Any, run: Any, secured: Any, tmp_path: Path
) -> None:
    async def work() -> None:
        authority = Authority()
        trusted = tmp_path / "pki/trusted"
        trusted.mkdir(parents=True)
        (trusted / "ca.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        (trusted / "readme.txt").write_text("not a certificate")
        cases: list[tuple[dict[str, Any], str | None]] = [
            ({}, None),
            ({"host": "192.0.2.1"}, "is not of 127.0.0.1"),
            ({"uri": "urn:somebody:else"}, "is not of urn:test:plant"),
            ({"days": -1}, "expired on 20"),
        ]
        for fields, why in cases:
            async with serve_plant(**secured(authority, **fields)) as plant:
                endpoint = plant.endpoint(security_policy="Basic256Sha256", pki=str(tmp_path / "pki"))
                if why is None:
                    async with open_session(endpoint):
                        continue
                with pytest.raises(LinkError) as caught:
                    async with open_session(endpoint):
                        pytest.fail(f"opened: {fields}")
                assert why in str(caught.value)

    run(work())


def test_what_an_authority_revoked_is_refused(key: Any, tmp_path: Path) -> None:
    authority, other = Authority(), Authority()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Plant server")])
    shown = build(key, authority.key, name, authority.name)
    raw = shown.public_bytes(serialization.Encoding.DER)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "crl").mkdir()
    authority_raw = authority.certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "trusted/authority.pem").write_bytes(authority_raw)
    now = datetime.datetime.now(datetime.UTC)

    def revoke(by: Any, *serials: int) -> bytes:
        made = x509.CertificateRevocationListBuilder().issuer_name(authority.name)
        made = made.last_update(now - datetime.timedelta(days=9)).next_update(
            now - datetime.timedelta(days=2)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            made = made.add_revoked_certificate(entry)
        return made.sign(by.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def check() -> None:
        certificates.check("plc:4840", tmp_path, raw, SERVER_URI, "127.0.0.1")

    for by, serials in ((authority, [1]), (other, [shown.serial_number])):
        (tmp_path / "crl/list.crl").write_bytes(revoke(by, *serials))
        check()  # another's serial, or a list that somebody else has signed
    (tmp_path / "crl/list.crl").write_bytes(revoke(authority, 1, shown.serial_number))
    for _ in range(2):
        with pytest.raises(LinkError, match=f"was revoked on {now:%Y-%m-%d} by the authority") as caught:
            check()
        assert caught.value.reason == "Revoked"
        (tmp_path / "trusted/server.der").write_bytes(raw)  # trusted by name: revoked all the same
    (tmp_path / "crl/broken").write_bytes(b"no list")
    with pytest.raises(ConfigError, match="crl/broken is no revocation list"):
        check()


def test_one_that_is_no_authority_issues_nothing(key: Any, tmp_path: Path) -> None:
    other = Authority()
    leaf = build(other.key, other.key, other.name, other.name, ca=False)
    fake = build(key, other.key, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fake")]), other.name)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted/leaf.der").write_bytes(leaf.public_bytes(serialization.Encoding.DER))
    shown = fake.public_bytes(serialization.Encoding.DER)
    with pytest.raises(LinkError, match="is not trusted"):
        certificates.check("plc:4840", tmp_path, shown, SERVER_URI, "127.0.0.1")
    with pytest.raises(LinkError, match="no readable certificate"):
        certificates.check("plc:4840", tmp_path, b"garbage", SERVER_URI, "127.0.0.1")


def test_a_policy_that_is_not_offered_names_those_that_are(
    serve_plant: Any, run: Any, tmp_path: Path
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            endpoint = plant.endpoint(security_policy="Basic256Sha256", pki=str(tmp_path))
            with pytest.raises(ConfigError) as caught:
                async with open_session(endpoint):
                    pytest.fail("opened")
            assert "does not offer Basic256Sha256 SignAndEncrypt; it offers None None" in str(caught.value)

    run(work())


def test_our_certificate_is_made_once_and_its_key_is_ours_alone(tmp_path: Path) -> None:
    certificate, key = certificates.own(tmp_path, "urn:devicemesh")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = certificate.read_bytes(), key.read_bytes()
    assert certificates.own(tmp_path, "urn:devicemesh") == (certificate, key)
    assert (certificate.read_bytes(), key.read_bytes()) == before
    names = certificates.load(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:devicemesh"]


def test_users(
    serve_plant: Any, run: Any, secured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVICEMESH_HOME", str(tmp_path / "home"))

    async def opened(endpoint: Any) -> str:
        try:
            async with open_session(endpoint, secrets):
                return "opened"
        except (AuthError, LinkError) as error:
            return f"{error.reason}: {error}"

    async def work() -> None:
        async with serve_plant(users=True, **secured()) as plant:
            (tmp_path / "pki/trusted").mkdir(parents=True)
            shutil.copy(tmp_path / "server/server.der", tmp_path / "pki/trusted")

            def endpoint(name: str, secret: str | None, **fields: Any) -> Any:
                password = {"password": {"name": secret}} if secret else {}
                identity = {"user_name": name, **password}
                secure = {"security_policy": "Basic256Sha256", "pki": str(tmp_path / "pki"), **fields}
                return plant.endpoint(identity=identity, **secure)

            assert await opened(endpoint("anna", "plc")) == "opened"
            assert "does not let user anna in" in await opened(endpoint("anna", "old"))
            assert (await opened(endpoint("anna", "none"))).startswith(
                "SecretMissing: there is no secret none/password"
            )
            user = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "berta")])
            write(tmp_path / "berta", build(user, user, name, name), user)
            files = {"certificate": str(tmp_path / "berta/server.der")}
            secure = {"security_policy": "Basic256Sha256", "pki": str(tmp_path / "pki")}
            own = {**files, "private_key": str(tmp_path / "berta/server.pem")}
            assert await opened(plant.endpoint(identity=own, **secure)) == "opened"
            others = {**files, "private_key": str(tmp_path / "server/server.pem")}
            assert (await opened(plant.endpoint(identity=others, **secure))) != "opened", (
                "it signs with its key"
            )
            gone = {**files, "private_key": str(tmp_path / "gone.pem")}
            with pytest.raises(ConfigError, match=r"can't use the identity's .*gone\.pem"):
                await opened(plant.endpoint(identity=gone, **secure))

    run(work())


def test_a_password_is_not_sent_for_all_to_read(
    serve_plant: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVICEMESH_HOME", str(tmp_path))

    async def work() -> None:
        async with serve_plant(users=True, tokens=["UserNameIdentityToken"]) as plant:
            identity = {"user_name": "anna", "password": {"name": "plc"}}
            with pytest.raises(AuthError) as caught:
                async with open_session(plant.endpoint(identity=identity), secrets):
                    pytest.fail("opened")
            assert caught.value.reason == "PlainPassword" and "allowPlainPassword: true" in str(caught.value)
            async with open_session(
                plant.endpoint(identity={**identity, "allow_plain_password": True}), secrets
            ):
                pass
            with pytest.raises(AuthError, match="does not let anonymous in"):
                async with open_session(plant.endpoint()):
                    pytest.fail("opened")

    run(work())


@pytest.mark.parametrize("policy", ["None", "Basic256Sha256"])
def test_a_channel_is_renewed_under_load_without_a_lost_change(
    serve_plant: Any,
    point: Any,
    run: Any,
    secured: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
) -> None:
    monkeypatch.setenv("DEVICEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(channel, "CHANNEL_LIFETIME_MS", 1200)
    renewed: list[int] = []
    renew = channel.Connection.open_secure_channel

    async def counted(self: Any, renew_: bool = False, **more: Any) -> None:
        await renew(self, renew=renew_ or more.get("renew", False))
        renewed.append(self.secure_channel_timeout)

    monkeypatch.setattr(channel.Connection, "open_secure_channel", counted)

    async def work() -> None:
        names, turns = [f"v{i}" for i in range(50)], 60
        async with serve_plant(**secured()) as plant:
            (tmp_path / "pki/trusted").mkdir(parents=True)
            shutil.copy(tmp_path / "server/server.der", tmp_path / "pki/trusted")
            await plant.add_many(names, 0.0, "Double")
            fields = {"security_policy": policy, "pki": str(tmp_path / "pki"), "publishing_interval": "100ms"}
            endpoint = plant.endpoint(**fields)
            points = [
                point(i, endpoint, "float64", n, sampling_interval="10ms", report="every")
                for i, n in enumerate(names)
            ]
            seen: dict[int, list[float]] = {i: [] for i in range(len(names))}
            async with (
                open_session(endpoint) as session,
                contextlib.aclosing(session.subscribe(points)) as batches,
            ):
                started = False
                async for batch in batches:
                    assert isinstance(batch, Batch)
                    for row in rows(batch):
                        seen[row.slot].append(row.value)
                    if not started and all(seen.values()):
                        started = True
                        await plant.count_up(names, turns, 0.05)
                    if all(values[-1] == turns for values in seen.values()):
                        break
                assert session.lost() == {}
            wanted = [float(number) for number in range(turns + 1)]
            assert all(values == wanted for values in seen.values()), "a change was lost"
            assert len(renewed) > 3 and set(renewed) == {1200}, "its first opening, then the renewals"

    run(work())
