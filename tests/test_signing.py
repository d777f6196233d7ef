from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import in_turn
from support_counts import write_artifact

import edgeft
from edgeft import artifact, signing, stage_folder
from edgeft.artifact import MANIFEST
from edgeft.bench.harness.subjects import remote
from edgeft.errors import ArtifactError, EdgeftError, MissingExtraError, UserError
from edgeft.files import file_sha256
from edgeft.serve import ServeSettings
from edgeft.serve.fake import FakeModel
from edgeft.serve.service import Service
from edgeft.signing import SIGNATURE

Run = Callable[..., tuple[int, str, str]]


class Signed:
    """An artifact, a key pair, and a stranger's key pair."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, write_artifact(root / "artifact")
        self.key, self.public = root / "owner.pem", root / "owner.pem.pub"
        self.stranger = root / "stranger.pem"
        self.fingerprint = signing.make_key(self.key).fingerprint
        signing.make_key(self.stranger)
        self.sign()

    def sign(self, key: Path | None = None) -> None:
        signing.sign_manifest(self.folder, (self.folder / MANIFEST).read_bytes(), key or self.key)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def openssl(*words: object) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True).stdout


# --------------------------------------------------------------------------------------------------- signed and trusted


@pytest.mark.parametrize("form", ["path", "string", "pem", "raw", "second", "alone"])
def test_what_a_trusted_key_signed_is_loaded(signed: Signed, form: str) -> None:
    pem = signed.public.read_bytes()
    (key,) = signing.read_trusted(signed.public)
    trusted: dict[str, Any] = {
        "path": [signed.public],
        "string": [str(signed.public)],
        "pem": [pem],
        "raw": [key.raw],
        "second": [f"{signed.stranger}.pub", signed.public],
        "alone": str(signed.public),
    }
    model = edgeft.load(signed.folder, trusted=trusted[form])
    assert model.signer == signed.fingerprint
    assert model("good")[0]["label"] == "positive"
    assert edgeft.load(signed.folder).signer is None  # nobody asked


def test_keys_and_signatures_are_openssls(signed: Signed) -> None:
    """The format is everybody's: a key of openssl signs here, and openssl checks what was signed here."""
    manifest, signature = signed.folder / MANIFEST, signed.folder / SIGNATURE
    check = ("pkeyutl", "-verify", "-pubin", "-rawin", "-in", manifest, "-sigfile", signature, "-inkey")
    assert "Verified Successfully" in openssl(*check, signed.public)
    theirs = signed.root / "theirs.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", theirs)
    (signed.root / "theirs.pub").write_text(openssl("pkey", "-in", theirs, "-pubout"))
    signed.sign(theirs)
    assert "Verified Successfully" in openssl(*check, signed.root / "theirs.pub")
    model = edgeft.load(signed.folder, trusted=[signed.root / "theirs.pub"])
    openssl("pkey", "-in", theirs, "-pubout", "-outform", "DER", "-out", signed.root / "theirs.der")
    assert model.signer == file_sha256(signed.root / "theirs.der")


def test_a_key_is_its_owners_alone_and_never_written_over(signed: Signed) -> None:
    if os.name != "nt":
        assert stat.S_IMODE(signed.key.stat().st_mode) == 0o600
    assert signed.key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert signed.public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    before = signed.key.read_bytes()
    with pytest.raises(UserError, match="is there already, and a key is never written over"):
        signing.make_key(signed.key)
    signed.key.rename(signed.root / "moved")
    with pytest.raises(UserError, match=r"owner.pem.pub is there already"):
        signing.make_key(signed.key)
    assert not signed.key.exists()
    assert (signed.root / "moved").read_bytes() == before


def test_the_signature_is_no_part_of_manifest_digest_or_stage(signed: Signed) -> None:
    assert SIGNATURE not in artifact.read_manifest(signed.folder).files
    with_it = stage_folder.digest(signed.folder)
    assert (signed.folder / SIGNATURE).stat().st_size == 64
    (signed.folder / SIGNATURE).unlink()
    assert stage_folder.digest(signed.folder) == with_it  # a signed run is not run again


# ------------------------------------------------------------------------------------------------------------- refusals


def without_signature(signed: Signed) -> None:
    (signed.folder / SIGNATURE).unlink()


def linked_signature(signed: Signed) -> None:
    (signed.folder / SIGNATURE).rename(signed.root / "elsewhere")
    (signed.folder / SIGNATURE).symlink_to(signed.root / "elsewhere")


def changed_manifest(signed: Signed) -> None:
    content = (signed.folder / MANIFEST).read_bytes()
    (signed.folder / MANIFEST).write_bytes(content.replace(b'"positive"', b'"neutral!"'))


def manifest_with_a_space(signed: Signed) -> None:
    (signed.folder / MANIFEST).write_bytes((signed.folder / MANIFEST).read_bytes() + b" ")


def changed_model(signed: Signed) -> None:
    content = bytearray((signed.folder / artifact.MODEL).read_bytes())
    content[-1] ^= 1
    (signed.folder / artifact.MODEL).write_bytes(content)


def flipped_signature(signed: Signed) -> None:
    content = bytearray((signed.folder / SIGNATURE).read_bytes())
    content[0] ^= 1
    (signed.folder / SIGNATURE).write_bytes(content)


REFUSED: dict[str, tuple[Callable[[Signed], object], str]] = {
    "no signature": (without_signature, r"is not signed: it has no manifest.sig.*edgeft sign .* --key FILE$"),
    "a link": (linked_signature, "is a link, and links aren't followed"),
    "a folder": (in_turn(without_signature, lambda s: (s.folder / SIGNATURE).mkdir()), "manifest.sig"),
    "empty": (lambda s: (s.folder / SIGNATURE).write_bytes(b""), "has 0 bytes, and an Ed25519 signature has 64"),
    "too long": (lambda s: (s.folder / SIGNATURE).write_bytes(bytes(10**6)), "has more than 64 bytes"),
    "a stranger's": (lambda s: s.sign(s.stranger), "is not by a trusted key"),
    "a changed manifest": (changed_manifest, "manifest.json was changed after it was signed"),
    "a manifest with a space": (manifest_with_a_space, "manifest.json was changed after it was signed"),
    "a changed model": (changed_model, r"model.onnx was changed"),
    "a flipped bit": (flipped_signature, "is not by a trusted key"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_trusted_key_signed_is_refused_everywhere(signed: Signed, name: str, run: Run) -> None:
    damage, said = REFUSED[name]
    damage(signed)
    with pytest.raises(ArtifactError, match=said) as raised:
        edgeft.load(signed.folder, trusted=[signed.public])
    assert "\n" not in str(raised.value)
    for words in (
        ("verify", signed.folder, "--key", signed.public),
        ("serve", signed.folder, "--trusted", signed.public),
    ):
        code, _, err = run(*words)
        assert (code, err.count("\n")) == (2, 1)


def test_the_bytes_that_were_checked_are_those_that_are_read(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever swaps the manifest between the check and the reading changes nothing."""
    read = artifact.read_manifest_bytes

    def swapped(folder: Path) -> bytes:
        content = read(folder)
        changed_manifest(signed)
        return content

    monkeypatch.setattr(artifact, "read_manifest_bytes", swapped)
    model = edgeft.load(signed.folder, trusted=[signed.public])
    assert model("good")[0]["label"] == "positive"
    with pytest.raises(ArtifactError):
        edgeft.load(signed.folder, trusted=[signed.public])


def key_of(kind: str, root: Path) -> Path:
    path = root / f"{kind}.pem"
    if kind == "encrypted":
        openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", path)
    elif kind == "rsa":
        openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path)
    elif kind == "text":
        path.write_text("no key")
    elif kind == "endless":
        path.write_bytes(bytes(1 << 17))
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", r"key .*missing.pem is missing; make one: edgeft sign --new-key FILE"),
        ("folder", "folder.pem"),
        ("text", "is no private key in PEM"),
        ("endless", "has more than 65,536 bytes"),
        ("encrypted", "is encrypted, and edgeft asks for no passphrase"),
        ("rsa", "is an RSA key, and edgeft signs with Ed25519"),
    ],
)
def test_a_file_that_is_no_private_key(signed: Signed, kind: str, said: str) -> None:
    without_signature(signed)
    with pytest.raises(UserError, match=said) as raised:
        signed.sign(key_of(kind, signed.root))
    assert "\n" not in str(raised.value)
    assert not (signed.folder / SIGNATURE).exists()


def test_keys_in_each_others_place(signed: Signed) -> None:
    with pytest.raises(UserError, match="is a public key; signing takes the private one"):
        signed.sign(signed.public)
    for private in (signed.key, signed.key.read_bytes()):
        with pytest.raises(UserError, match=r"is a private key.*openssl pkey -in .* -pubout"):
            edgeft.load(signed.folder, trusted=[private])
    other = signed.root / "rsa.pub"
    other.write_text(openssl("pkey", "-in", key_of("rsa", signed.root), "-pubout"))
    with pytest.raises(UserError, match="is an RSA key"):
        edgeft.load(signed.folder, trusted=[other])
    for wrong, said in ((b"\0" * 31, "is no public key"), (signed.folder / MANIFEST, "is no public key")):
        with pytest.raises(UserError, match=said):
            edgeft.load(signed.folder, trusted=[wrong])
    with pytest.raises(UserError, match="no key is trusted"):
        edgeft.load(signed.folder, trusted=[])


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_a_key_that_others_may_read_is_said(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    assert "warning" not in capsys.readouterr().err
    signed.key.chmod(0o640)
    signed.sign()
    assert f"{signed.key} may be read by others (mode 640): chmod 600" in capsys.readouterr().err


def test_without_cryptography_the_extra_is_named(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert edgeft.load(signed.folder)("bad")[0]["label"] == "negative"
    with pytest.raises(MissingExtraError, match=r"cryptography .* pip install 'edgeft\[sign\]'"):
        edgeft.load(signed.folder, trusted=[signed.public])


def test_cryptography_is_imported_only_where_keys_are(signed: Signed) -> None:
    program = (
        "import sys, edgeft; edgeft.load(sys.argv[1]); assert 'cryptography' not in sys.modules; "
        "edgeft.load(sys.argv[1], trusted=[sys.argv[2]]); assert 'cryptography' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(signed.folder), str(signed.public)], check=True)


# ----------------------------------------------------------------------------------------------------- commands, server


def test_signing_and_checking_as_commands(tmp_path: Path, run: Run) -> None:
    folder, key = write_artifact(tmp_path / "artifact"), tmp_path / "key.pem"
    assert "signature: none" in run("verify", folder)[1]
    code, out, _ = run("sign", "--new-key", key, "--json")
    assert code == 0
    fingerprint = json.loads(out.splitlines()[-1])["signed_by"]
    code, out, _ = run("sign", folder, "--key", key)
    assert (code, out) == (0, f"{folder / SIGNATURE}: by the key {fingerprint}\n")
    assert "signature: manifest.sig was not checked; give --key PUB" in run("verify", folder)[1]
    code, out, _ = run("verify", folder, "--key", f"{key}.pub", "--replay", "--json")
    assert code == 0
    assert f"signature: by the key {fingerprint}" in out
    assert json.loads(out.splitlines()[-1])["signed_by"] == fingerprint
    for words, said in (
        (["sign", folder], "give --key FILE"),
        (["sign", "--key", key], "give the artifact's folder"),
        (["sign", folder, "--key", key, "--new-key", key], "give --key FILE"),
        (["sign", "--new-key", tmp_path / "no" / "key"], "there is no folder"),
    ):
        code, _, err = run(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


def test_a_changed_artifact_is_not_signed(signed: Signed, run: Run) -> None:
    without_signature(signed)
    changed_model(signed)
    code, _, err = run("sign", signed.folder, "--key", signed.key)
    assert code == 2
    assert "model.onnx was changed" in err
    assert not (signed.folder / SIGNATURE).exists()


def test_a_server_takes_only_models_that_a_trusted_key_signed(signed: Signed) -> None:
    settings = ServeSettings(trusted_signers=(signed.fingerprint,))
    trusted = edgeft.load(signed.folder, trusted=[signed.public])
    assert list(Service({"a": trusted}, settings).models) == ["a"]
    unchecked = edgeft.load(signed.folder)  # signed, but nobody looked
    for model in (unchecked, FakeModel()):
        with pytest.raises(EdgeftError, match="takes only what a trusted key signed"):
            Service({"a": trusted, "b": model}, settings)
    signed.sign(signed.stranger)
    strangers = edgeft.load(signed.folder, trusted=[f"{signed.stranger}.pub"])
    with pytest.raises(ArtifactError, match="b is signed by"):
        Service({"b": strangers}, settings)


def test_the_signature_goes_with_the_artifact_to_another_machine(
    signed: Signed, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[str] = []

    def measured(there: Any, words: Any, files: dict[str, Path]) -> dict[str, Any]:
        with tarfile.open(fileobj=io.BytesIO(remote.pack_files(files))) as archive:
            packed.extend(archive.getnames())
        raise UserError("that is all")

    monkeypatch.setattr(remote, "measure_remotely", measured)
    assert "that is all" in run("bench", signed.folder, "--target", "ssh://there", "--json")[2]
    assert {f"0/artifact/{name}" for name in (MANIFEST, SIGNATURE, artifact.MODEL)} <= set(packed)


def test_what_is_no_signature_stays_here(signed: Signed) -> None:
    assert signing.signature_files(signed.folder) == [SIGNATURE]
    linked_signature(signed)
    assert signing.signature_files(signed.folder) == []
    without_signature(signed)
    assert signing.signature_files(signed.folder) == []
    (signed.folder / SIGNATURE).write_bytes(b"another file")
    assert signing.signature_files(signed.folder) == []


def test_a_refusal_says_whose_key_is_trusted_and_whose_it_is(signed: Signed) -> None:
    theirs = edgeft.load(signed.folder, trusted=[signed.public])
    stranger = signing.read_trusted([signed.root / "stranger.pem.pub"])[0].fingerprint
    with pytest.raises(EdgeftError) as caught:
        Service({"a": theirs}, ServeSettings(trusted_signers=(stranger,)))
    assert f"a is signed by {signed.fingerprint[:16]}" in str(caught.value)
    assert f"a trusted key signed ({stranger[:16]})" in str(caught.value)
    with pytest.raises(ArtifactError, match=f"trusted: {stranger[:16]}; the signer: unknown, as a signature"):
        edgeft.load(signed.folder, trusted=[signed.root / "stranger.pem.pub"])


@pytest.mark.parametrize("flag", ["--trusted", "--key"])
def test_verify_takes_both_names_of_its_flag(signed: Signed, flag: str, run: Run) -> None:
    code, out, _ = run("verify", signed.folder, flag, signed.public)
    assert (code, f"by the key {signed.fingerprint}" in out) == (0, True)
    code, _, err = run("verify", signed.folder, flag, signed.root / "stranger.pem.pub")
    assert (code, "is not by a trusted key" in err) == (2, True)
    both = ("--trusted", signed.root / "stranger.pem.pub", flag, signed.public)
    assert run("verify", signed.folder, *both)[0] == 0


def test_predict_takes_trusted_keys(signed: Signed, run: Run) -> None:
    code, out, _ = run("predict", signed.folder, "bad", "--trusted", signed.public)
    assert (code, out.startswith("negative")) == (0, True)
    code, out, err = run("predict", signed.folder, "bad", "--trusted", signed.root / "stranger.pem.pub")
    assert (code, out, "is not by a trusted key" in err) == (2, "", True)


def test_verify_with_a_replay_reads_the_files_once(signed: Signed, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    compare = artifact.verify_files

    def counted(folder: Path, *others: Any) -> Any:
        calls.append(folder)
        return compare(folder, *others)

    monkeypatch.setattr(artifact, "verify_files", counted)
    assert run("verify", signed.folder, "--key", signed.public, "--replay")[0] == 0
    assert calls == [signed.folder]


@pytest.mark.parametrize("full_at", [1, 2])
def test_a_full_disk_leaves_no_half_key(tmp_path: Path, full_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = 0
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal synced
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced += 1
            if synced == full_at:
                raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        signing.make_key(tmp_path / "key.pem")
    assert list(tmp_path.iterdir()) == []
    signing.make_key(tmp_path / "key.pem")
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
