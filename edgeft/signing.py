"""Signatures of artifacts: who answers for a manifest, and with it for every file whose digest it holds.

`manifest.sig` holds the 64 bytes of an Ed25519 signature (RFC 8032) over the exact bytes of manifest.json, and nothing
else. Keys are PEM files as openssl writes them: PKCS #8 for the private one, SubjectPublicKeyInfo for the public one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from edgeft.errors import ArtifactError, UserError, require
from edgeft.files import open_regular, write_atomically
from edgeft.listed_files import describe_problem
from edgeft.terminal.printing import say

SIGNATURE = "manifest.sig"
SIGNATURE_BYTES = 64
RAW_KEY_BYTES = 32
KEY_FILE_BYTES = 1 << 16  # a PEM file of one key is far smaller
SPKI_HEAD = bytes.fromhex("302a300506032b6570032100")  # what DER puts before an Ed25519 key (RFC 8410, section 4)
PURPOSE = "to sign artifacts and to check their signatures"
MAKE_KEY = "edgeft sign --new-key FILE"

Trusted: TypeAlias = str | os.PathLike[str] | bytes  # a path, PEM, or the 32 bytes of a public key


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key.

    Attributes:
        raw: its 32 bytes.
    """

    raw: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key in DER, as of `openssl pkey -pubin -in KEY -outform DER | sha256sum`."""
        return hashlib.sha256(SPKI_HEAD + self.raw).hexdigest()


# ------------------------------------------------------------------------------------------------------------- signing


def make_key(path: Path) -> PublicKey:
    """Write a new private key, for its owner's eyes only, and the public one beside it as PATH.pub.

    Raises:
        MissingExtraError: cryptography is not installed.
        UserError: one of the files is there, or their folder isn't.
    """
    ed25519, public_path = _ed25519(), path.with_name(f"{path.name}.pub")
    for file in (path, public_path):
        if os.path.lexists(file):
            raise UserError(f"sign: {file} is there already, and a key is never written over; name another file")
    if not path.parent.is_dir():
        raise UserError(f"sign: --new-key {path}: there is no folder {path.parent}")
    private = ed25519.Ed25519PrivateKey.generate()
    write_atomically(public_path, _pem(private.public_key()))  # first: a public key alone opens nothing
    try:
        write_atomically(path, _pem(private), mode=0o600)
    except BaseException:
        public_path.unlink(missing_ok=True)
        raise
    return _public(private.public_key())


def sign_manifest(folder: Path, content: bytes, key: Path) -> PublicKey:
    """Write the signature beside the manifest.

    Args:
        folder: the artifact; its files were compared with the manifest.
        content: the exact bytes of its manifest.
        key: file of the private key.

    Returns:
        The public key.

    Raises:
        MissingExtraError: cryptography is not installed.
        UserError: the file holds no private Ed25519 key.
    """
    private = _read_private_key(key)
    write_atomically(folder / SIGNATURE, private.sign(content))
    return _public(private.public_key())


def _read_private_key(path: Path) -> Any:
    ed25519, content = _ed25519(), _read_key_file(path)
    if b"-----BEGIN PUBLIC KEY-----" in content:
        raise UserError(f"{path} is a public key; signing takes the private one")
    try:
        key = _serialization().load_pem_private_key(content, password=None)
    except TypeError:
        raise UserError(
            f"{path} is encrypted, and edgeft asks for no passphrase; decrypt it: openssl pkey -in {path} -out FILE"
        ) from None
    except Exception:  # noqa: BLE001 - of what is no key it raises many things
        raise UserError(f"{path} is no private key in PEM; make one: {MAKE_KEY}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        _refuse_algorithm(path, key)
    _warn_of_readers(path)
    return key


def _warn_of_readers(path: Path) -> None:
    if os.name != "nt" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        say(f"sign: warning: {path} may be read by others (mode {mode:o}): chmod 600 {path}")


# ------------------------------------------------------------------------------------------------------------ checking


def read_trusted(trusted: Iterable[Trusted] | Trusted) -> list[PublicKey]:
    """Public keys of files, PEM or raw bytes.

    Raises:
        MissingExtraError: cryptography is not installed.
        UserError: there is none, or one is not a public Ed25519 key.
    """
    keys = [trusted] if isinstance(trusted, str | bytes | os.PathLike) else list(trusted)
    if not keys:
        raise UserError("no key is trusted, so no artifact could be loaded; give a public key, or leave `trusted` out")
    return [_read_public_key(key) for key in keys]


def _read_public_key(key: Trusted) -> PublicKey:
    if isinstance(key, bytes) and len(key) == RAW_KEY_BYTES:
        return PublicKey(key)
    name = "a trusted key" if isinstance(key, bytes) else os.fspath(key)
    content = key if isinstance(key, bytes) else _read_key_file(Path(key))
    if b"PRIVATE KEY-----" in content:
        raise UserError(
            f"{name} is a private key, which nobody needs who checks; give the public one: "
            f"openssl pkey -in {'KEY' if isinstance(key, bytes) else name} -pubout"
        )
    ed25519 = _ed25519()
    try:
        public = _serialization().load_pem_public_key(content)
    except Exception:  # noqa: BLE001 - of what is no key it raises many things
        raise UserError(f"{name} is no public key in PEM (-----BEGIN PUBLIC KEY-----), nor 32 bytes of one") from None
    if not isinstance(public, ed25519.Ed25519PublicKey):
        _refuse_algorithm(name, public)
    return _public(public)


def check_signature(folder: Path, content: bytes, keys: list[PublicKey]) -> PublicKey:
    """Find the key that signed a manifest.

    Args:
        folder: the artifact.
        content: the bytes of its manifest; what is decoded later must be these and not be read again.
        keys: those that are trusted.

    Raises:
        ArtifactError: there is no signature, or none of the keys made it for these bytes.
        MissingExtraError: cryptography is not installed.
    """
    signature, ed25519 = _read_signature(folder), _ed25519()
    invalid = require("cryptography.exceptions", PURPOSE).InvalidSignature
    for key in keys:
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, content)
        except (invalid, ValueError):
            continue
        return key
    raise ArtifactError(
        f"{folder}: its {SIGNATURE} is not by a trusted key, or its manifest.json was changed after it was signed; "
        f"trusted: {short_ids(key.fingerprint for key in keys)}; the signer: unknown, as a signature doesn't name its "
        f"key; give the signer's public key, or sign it anew: edgeft sign {folder} --key FILE"
    )


def short_ids(fingerprints: Iterable[str]) -> str:
    """Short ids of the first four keys for messages, 16 hexadecimal digits each."""
    short = [fingerprint[:16] for fingerprint in fingerprints]
    return ", ".join(short[:4]) + (", ..." if len(short) > 4 else "")


def is_signed(folder: Path) -> bool:
    """Whether there is a signature, by any key."""
    return os.path.lexists(folder / SIGNATURE)


def signature_files(folder: Path) -> list[str]:
    """Names of what goes with an artifact beside what its manifest lists: a signature, where a plain file holds one."""
    with contextlib.suppress(OSError):
        status = (folder / SIGNATURE).lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size == SIGNATURE_BYTES:
            return [SIGNATURE]
    return []


def _read_signature(folder: Path) -> bytes:
    try:
        with open_regular(folder / SIGNATURE) as file:
            signature = file.read(SIGNATURE_BYTES + 1)
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} is not signed: it has no {SIGNATURE}, and only what a trusted key signed is accepted; "
            f"sign it: edgeft sign {folder} --key FILE"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{folder}: its {SIGNATURE} {describe_problem(error)}") from None
    if len(signature) != SIGNATURE_BYTES:
        size = len(signature) if len(signature) < SIGNATURE_BYTES else f"more than {SIGNATURE_BYTES}"
        raise ArtifactError(
            f"{folder}: its {SIGNATURE} has {size} bytes, and an Ed25519 signature has {SIGNATURE_BYTES}; "
            f"sign it anew: edgeft sign {folder} --key FILE"
        )
    return signature


# ---------------------------------------------------------------------------------------------------------------- keys


def _read_key_file(path: Path) -> bytes:
    """Read a key file; links are followed, because whoever names the file is trusted."""
    try:
        with open_regular(path.resolve()) as file:
            content = file.read(KEY_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"key {path} {describe_problem(error)}; make one: {MAKE_KEY}") from None
    if len(content) > KEY_FILE_BYTES:
        raise UserError(f"{path} has more than {KEY_FILE_BYTES:,} bytes: no key in PEM")
    return content


def _refuse_algorithm(name: object, key: Any) -> NoReturn:
    kind = type(key).__name__.lstrip("_").removesuffix("PublicKey").removesuffix("PrivateKey")
    raise UserError(f"{name} is an {kind} key, and edgeft signs with Ed25519; make one: {MAKE_KEY}")


def _public(key: Any) -> PublicKey:
    return PublicKey(key.public_bytes_raw())


def _pem(key: Any) -> bytes:
    serial = _serialization()
    if hasattr(key, "private_bytes"):
        content = key.private_bytes(serial.Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption())
    else:
        content = key.public_bytes(serial.Encoding.PEM, serial.PublicFormat.SubjectPublicKeyInfo)
    return bytes(content)


def _ed25519() -> Any:
    return require("cryptography.hazmat.primitives.asymmetric.ed25519", PURPOSE)


def _serialization() -> Any:
    return require("cryptography.hazmat.primitives.serialization", PURPOSE)
