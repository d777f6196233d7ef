"""Measuring on another machine: a real sshd on loopback, its own keys, an unprivileged user."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from support import last_json
from support_counts import write_artifact

import edgeft
from edgeft.bench.harness.subjects import remote
from edgeft.bench.harness.subjects.remote import Target
from edgeft.cli import app
from edgeft.errors import EdgeftError, UserError

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
WAIT_SECONDS = 30.0
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile {folder}/guest.pub
AllowUsers {user}
"""


@dataclass(frozen=True)
class Device:
    """A machine of its own, as far as ssh can tell."""

    target: Target
    temporary: Path
    user: str

    def left(self) -> list[str]:
        """What a measurement has left: folders, and processes of the harness."""
        folders = [path.name for path in self.temporary.iterdir()]
        own = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"]]
        mine = [" ".join(one.info["cmdline"]) for one in own if str(self.temporary) in _environment(one)]
        return folders + mine


def _environment(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("TMPDIR", ""))
    except psutil.Error:
        return ""


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def guest() -> Iterator[str]:
    """A user without rights: a fresh one where the tests are root's, else whoever runs them."""
    if os.geteuid():
        yield pwd.getpwuid(os.geteuid()).pw_name
        return
    name = f"edgeft-{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", "--password", "*", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=True)


@pytest.fixture(scope="module")
def device(guest: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """An sshd, and what `pip install '.[cpu]'` would bring, where the guest can read it."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client and server")
    base = Path("/tmp" if not os.geteuid() else tmp_path_factory.mktemp("x")) / f"edgeft-sshd-{os.getpid()}"
    base.mkdir(mode=0o755)
    for name in ("host", "guest", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(base / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (base / "config").write_text(CONFIG.format(port=port, folder=base, user=guest))
    (base / "known").write_text(f"[127.0.0.1]:{port} {(base / 'host.pub').read_text()}")
    temporary = base / "temporary"
    temporary.mkdir()
    temporary.chmod(0o777)
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD is not None
    with (base / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(base / "config")], stdout=log, stderr=log)
    try:
        until(lambda: _answers(port))
        python = f"env TMPDIR={temporary} PYTHONPATH={_site(base)} {_python()}"
        options = ("-i", str(base / "guest"), "-o", f"UserKnownHostsFile={base / 'known'}", "-o", "IdentitiesOnly=yes")
        yield Device(Target(host="127.0.0.1", user=guest, port=port, python=python, options=options), temporary, guest)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(base)


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _site(base: Path) -> Path:
    """What `pip install '.[cpu]'` would bring, where the guest can read it."""
    site = base / "site"
    code = "import site; print(site.getsitepackages()[0])"
    made = os.environ.get("EDGEFT_DEVICE_PYTHON")
    source = subprocess.run([made or sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    if made:
        shutil.copytree(source.strip(), site)
    else:  # no environment of a device: this one's, too large to copy
        site.mkdir()
        for path in Path(source.strip()).iterdir():
            (site / path.name).symlink_to(path)
    shutil.copytree(Path(edgeft.__file__).parent, site / "edgeft")
    return site


def _python() -> str:
    """An interpreter that anybody may run, of this one's version."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(version, path="/usr/bin:/usr/local/bin")
    return found or str(getattr(sys, "_base_executable", sys.executable))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "counts")


def words(seconds: float) -> list[str]:
    return ["bench", "counts", "--json", "--rounds", "1", "--seconds", str(seconds)]


def test_it_measures_there_and_leaves_nothing(
    device: Device, artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = remote.measure_remotely(device.target, words(0.5), {"counts": artifact})
    assert found["subjects"][0]["name"] == "counts"
    assert found["subjects"][0]["single_stream"]["queries"] >= 662
    assert found["subjects"][0]["replay"]["passed"]
    assert "127.0.0.1: single stream: 1/1" in capfd.readouterr().err
    assert device.left() == []


def test_as_a_command(device: Device, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = device.target
    app(
        [
            *("bench", str(artifact), "--rounds", "1", "--seconds", "0.5", "--json"),
            *("--target", f"ssh://{there.user}@{there.host}:{there.port}", "--target-python", there.python),
            *(word for option in there.options for word in (f"--ssh-option={option}",)),
        ]
    )
    found = last_json(capsys.readouterr().out)
    assert found["target"] == f"ssh://{there.user}@127.0.0.1:{there.port}"
    assert found["subjects"][0]["kind"] == "artifact"
    assert device.left() == []


def test_what_goes_wrong_is_one_line(device: Device, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, files = device.target, {"counts": artifact}
    wrong = ("-i", there.options[1].replace("guest", "other"), *there.options[2:])
    greedy = artifact.parent / "device.py"
    greedy.write_text(remote.HARNESS.read_text().replace("SPARE = 50_000_000", "SPARE = 10**18"))
    plain = there.python.replace("PYTHONPATH", "NOTHING")
    cases: list[tuple[Target, str]] = [
        (replace(there, port=1), r"Connection refused"),
        (replace(there, host="nowhere.invalid"), r"nowhere.invalid: ssh: Could not resolve hostname"),
        (replace(there, options=wrong), r"Permission denied \(publickey"),
        (replace(there, python="nopython"), r"no nopython there; name one with --target-python"),
        (replace(there, python=plain), r"edgeft .*not installed there; pip install"),
    ]
    for target, said in cases:
        with pytest.raises(EdgeftError, match=said) as raised:
            remote.measure_remotely(target, words(0.5), files)
        assert "\n" not in str(raised.value)
    with pytest.raises(EdgeftError, match=r"127.0.0.1: edgeft: missing: neither an artifact"):
        remote.measure_remotely(there, ["bench", "missing", "--json"], files)
    with monkeypatch.context() as patch:
        patch.setattr(remote, "__version__", "9.9")
        with pytest.raises(EdgeftError, match=r"edgeft \S+ there, 9.9 here; install the same"):
            remote.measure_remotely(there, words(0.5), files)
    monkeypatch.setattr(remote, "HARNESS", greedy)
    with pytest.raises(EdgeftError, match=r"MB free in .*temporary there, 1000000000\d+ MB needed"):
        remote.measure_remotely(there, words(0.5), files)
    assert device.left() == []


def measuring_process(there: Target, artifact: Path, first: str = "") -> subprocess.Popen[bytes]:
    """A process that measures there for minutes; `first` is code that it runs before."""
    code = (
        "import sys, time; from pathlib import Path; from edgeft.bench.harness.subjects import remote\n"
        f"{first}there = remote.Target(host={there.host!r}, user={there.user!r}, port={there.port}, "
        f"python={there.python!r}, options={there.options!r})\n"
        f"remote.measure_remotely(there, {words(600.0)!r}, {{'counts': Path({str(artifact)!r})}})"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


# Of what is sent, the harness goes whole and the archive half, as over a slow line.
HALF = """
send, sent = remote._send, []
def half(process, data):
    sent.append(data)
    send(process, data if len(sent) == 1 else data[:len(data) // 2])
    if len(sent) > 1:
        print("half", file=sys.stderr, flush=True)
        time.sleep(600)
remote._send = half
"""


@pytest.mark.parametrize("whom", ["here", "harness"])
def test_killed_while_the_artifact_is_sent_nothing_is_left(whom: str, device: Device, artifact: Path) -> None:
    with measuring_process(device.target, artifact, HALF) as measuring:
        assert measuring.stderr is not None
        assert measuring.stderr.readline() == b"half\n"
        until(lambda: any(one.startswith("edgeft-bench-") for one in device.left()))
        if whom == "here":
            measuring.send_signal(signal.SIGKILL)
        else:
            _kill(device, "exec(compile")
        assert measuring.wait() != 0
        if whom == "harness":
            # 255 where the login shell became the harness, whose end by a signal ssh then has
            said = measuring.stderr.read()
            assert re.search(rb"127.0.0.1: (the harness ended with exit code 137: Killed|ssh ended with .* 255)", said)
    until(lambda: device.left() == [])


def _kill(device: Device, command: str) -> None:
    """The first of the processes there whose command line has these words: what it started cleans up after it."""
    there = [one for one in psutil.process_iter(["cmdline"]) if str(device.temporary) in _environment(one)]
    min((one for one in there if command in _words(one)), key=lambda one: one.create_time()).kill()


@pytest.mark.parametrize("whom", ["here", "there", "harness"])
def test_killed_half_way_nothing_is_left(whom: str, device: Device, artifact: Path) -> None:
    with measuring_process(device.target, artifact) as measuring:
        until(lambda: any("worker.py" in one for one in device.left()))
        if whom == "here":
            measuring.send_signal(signal.SIGKILL)
        else:
            _kill(device, "edgeft.cli.main()" if whom == "there" else "exec(compile")
        assert measuring.wait() != 0
        assert measuring.stderr is not None
        said = measuring.stderr.read().decode()
        assert ("signal 9 ended the measurement there: out of memory?" in said) == (whom == "there"), said
    until(lambda: device.left() == [])


def _words(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or ())


def test_a_machine_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        with pytest.raises(EdgeftError, match=r"here: silent for 0.2 s"):
            next(remote._lines(shell, Target(host="here")))
        assert shell.stdin is not None
        shell.stdin.write(b"\n")


def test_what_a_login_shell_prints_is_passed_over() -> None:
    """Both lines come at once, and nothing after them until an answer has gone the other way."""
    code = "import sys; print('Welcome\\n[1]\\n{\"ready\": true}', flush=True); sys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert next(remote._lines(shell, Target(host="here"))) == {"ready": True}
        assert shell.stdin is not None
        shell.stdin.write(b"\n")


@pytest.mark.parametrize("text", ["host", "http://host", "ssh://", "ssh://host:x", "ssh://host/path"])
def test_what_is_no_machine(text: str) -> None:
    with pytest.raises(UserError, match=r"expected ssh://user@host"):
        remote.parse_target(text, "python3")
    with pytest.raises(UserError, match="leave the password out"):
        remote.parse_target("ssh://me:secret@host", "python3")


def test_a_machine_is_read() -> None:
    assert remote.parse_target("ssh://pi@10.0.0.7:2222", "python3") == Target(host="10.0.0.7", user="pi", port=2222)
    assert remote.parse_target("ssh://pi", "python3") == Target(host="pi")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """A machine that says what it wants to: a program in place of ssh."""
    files = {"one.txt": tmp_path / "one.txt"}
    files["one.txt"].write_text("a")

    def measure(program: str) -> object:
        script = tmp_path / "ssh.py"
        script.write_text(f"import json, sys\nwrite = sys.stdout.write\n{program}\nsys.stdout.flush()\n")
        monkeypatch.setattr(remote, "SSH", (sys.executable, str(script)))
        return remote.measure_remotely(Target(host="elsewhere"), ["bench"], files)

    return measure


ENDLESS = "line = 'x' * 1000\ntry:\n    while True: write({what})\nexcept BrokenPipeError: pass"


@pytest.mark.parametrize(
    ("limit", "program", "line"),
    [
        ("LINE_BYTES", ENDLESS.format(what="line"), "elsewhere: says more than 90,000 bytes in one line, which no"),
        ("ALL_BYTES", ENDLESS.format(what="line + chr(10)"), "elsewhere: says more than 90,000 bytes, which no"),
        ("LINES", ENDLESS.format(what="chr(10)"), "elsewhere: says more than 90,000 lines, which no"),
    ],
    ids=["a line", "all", "lines"],
)
def test_a_machine_that_says_too_much_is_left(
    machine: Callable[[str], object], monkeypatch: pytest.MonkeyPatch, limit: str, program: str, line: str
) -> None:
    monkeypatch.setattr(remote, limit, 90_000)
    with pytest.raises(EdgeftError, match=line) as caught:
        machine(program)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("write('{\"result\": [1, 2]}\\n')", r"elsewhere: its document is no object: \[1, 2\]"),
        ("write('{\"result\": null}\\n')", r"elsewhere: its document is no object: None"),
        ("write('{\"result\": {}}\\n')", r"elsewhere: its document is no measurement: KeyError"),
        ("write(json.dumps({'result': {'subjects': 5}}) + '\\n')", r"its document is no measurement"),
        ("write('{\"a\": ' + '[' * 5000 + ']' * 5000 + '}\\n')", r"nests deeper than 100 levels"),
        ("write('{\"a\": ' + '[' * 200 + ']' * 200 + '}\\n')", r"nests deeper than 100 levels"),
        ("write('{\"result\": {\"a\": ' + '1' * 5000 + '}}\\n')", r"exit code 0"),  # no JSON to Python
    ],
)
def test_what_is_no_measurement_is_one_line(machine: Callable[[str], object], program: str, line: str) -> None:
    with pytest.raises(EdgeftError, match=line) as caught:
        machine(program)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_words_of_a_machine_are_short_and_act_on_nothing(
    machine: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    said = "write(json.dumps({'say': 'a' + chr(27) + '[2J' + chr(10) + 'b' * 10**6}) + chr(10))"
    refused = "write(json.dumps({'refused': {'x': 'c' * 10**6}}) + chr(10))"
    with pytest.raises(EdgeftError, match=r"elsewhere: .*c\.\.\. \(1,000,009 characters\)") as caught:
        machine(f"{said}\n{refused}")
    assert len(str(caught.value)) < 700
    error = capsys.readouterr().err
    assert error.startswith("elsewhere: a\\x1b[2J bbb")
    assert error.count("\n") == 1
    assert len(error) < 700


def test_standard_error_without_end_fills_nothing(machine: Callable[[str], object]) -> None:
    program = (
        "for _ in range(2000): sys.stderr.write('e' * 999 + chr(10))\nsys.stderr.write('last' * 10**5)\nsys.exit(3)"
    )
    with pytest.raises(EdgeftError, match=r"exit code 3: .*characters\)") as caught:
        machine(program)
    assert len(str(caught.value)) < 700


def test_nesting_is_counted() -> None:
    def nested(levels: int) -> object:
        value: object = 1
        for _ in range(levels):
            value = [value]
        return value

    assert not remote._nests_deeper(nested(100), 100)
    assert remote._nests_deeper(nested(101), 100)
