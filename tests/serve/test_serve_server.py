"""Real processes on loopback ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgeft.errors import UserError
from edgeft.serve import ServeSettings, serve
from edgeft.serve.fake import FakeModel
from edgeft.serve.server import bind, is_loopback, url_of

# A model that says on stdout when it starts and waits for a file before it answers.
PROGRAM = """
import os, sys, time
from pathlib import Path
from edgeft.serve import ServeSettings, serve
from edgeft.serve.fake import FakeModel

class Waiting(FakeModel):
    def probabilities(self, texts):
        os.write(1, b"started\\n")  # one call: print of two threads can write "startedstarted"
        while texts[0].startswith("wait") and not Path(sys.argv[1]).exists():
            time.sleep(0.01)
        return super().probabilities(texts)

serve({"fake": Waiting()}, ServeSettings(port=0, **eval(sys.argv[2])))
print("returned", flush=True)
"""


class Process:
    """A server process, with its URL read from its first line on stderr."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.gate = folder / "gate"
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(self.gate), repr(settings)]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.popen.stderr
        self.line = self.popen.stderr.readline()
        self.url = self.line.split(" at ")[-1].strip()
        self.wait_for_starts(1)  # the warm-up

    def wait_for_starts(self, count: int) -> None:
        """Wait until so many more inferences have started."""
        assert self.popen.stdout
        for _ in range(count):
            assert self.popen.stdout.readline() == "started\n"

    def wait_for_its_end_to_begin(self) -> None:
        """Wait until it has taken notice of a signal."""
        for _ in range(200):
            ready = httpx.get(f"{self.url}/readyz", timeout=20)
            if ready.status_code == 503:
                break
            time.sleep(0.05)
        assert ready.json() == {"error": "the server is shutting down"}

    def predict(self, text: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/predict", json={"text": text}, timeout=20)

    def end(self) -> tuple[int, str, str]:
        """Exit code, the rest of stdout, the rest of stderr."""
        out, err = self.popen.communicate(timeout=20)
        return self.popen.returncode, out, err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    processes: list[Process] = []

    def one(**settings: Any) -> Process:
        processes.append(Process(tmp_path, **settings))
        return processes[-1]

    yield one
    for process in processes:
        process.popen.kill()
        process.popen.communicate()


def test_answers_many_clients_and_says_its_real_port(start: Any) -> None:
    server = start(threads=2)
    assert server.line.startswith("serve: fake at http://127.0.0.1:")
    assert not server.url.endswith(":0")
    texts = ["good", "bad"] * 20
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(server.predict, texts))
    labels = [response.json()["predictions"][0]["label"] for response in responses]
    assert labels == ["positive", "negative"] * 20
    server.popen.send_signal(signal.SIGINT)
    code, out, err = server.end()
    assert (code, out.splitlines()[-1], err) == (0, "returned", "")


def test_sigterm_with_requests_running_and_waiting_answers_them_all(start: Any) -> None:
    server = start(threads=2)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(server.predict, f"wait, good {number}") for number in range(6)]
        server.wait_for_starts(2)
        time.sleep(0.5)  # for the other four to be in the queue
        server.popen.send_signal(signal.SIGTERM)
        server.wait_for_its_end_to_begin()
        assert server.predict("late").status_code == 503
        assert server.popen.poll() is None
        server.gate.touch()
        responses = [future.result(20) for future in futures]
    assert [response.status_code for response in responses] == [200] * 6
    code, out, err = server.end()
    assert (code, out.splitlines()[-1], err) == (0, "returned", "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/readyz")


def test_an_inference_that_never_returns_does_not_keep_the_process(start: Any) -> None:
    server = start(timeout_seconds=1)
    assert server.predict("wait for ever").status_code == 504
    server.popen.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0


def test_a_second_signal_does_not_wait(start: Any) -> None:
    server = start(timeout_seconds=60)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(server.predict, "wait for ever")
        server.wait_for_starts(1)
        server.popen.send_signal(signal.SIGTERM)
        server.wait_for_its_end_to_begin()
        began = time.monotonic()
        server.popen.send_signal(signal.SIGTERM)
        code, _, err = server.end()
        assert time.monotonic() - began < 10
        assert code != 0
        assert "ASGI" not in err
        assert err.splitlines()[-1].endswith("requests without an answer were dropped")
        assert future.exception(20) is not None or future.result().status_code >= 500


def test_a_body_that_does_not_arrive_gets_408(start: Any) -> None:
    server = start(timeout_seconds=1)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert server.predict("good").status_code == 200


def test_a_client_that_hangs_up_harms_nobody(start: Any) -> None:
    server = start()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    assert server.predict("good").status_code == 200
    server.popen.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0


def test_a_taken_port_is_one_line() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as caught:
            serve({"fake": FakeModel()}, ServeSettings(port=port))
    message = str(caught.value)
    assert str(port) in message
    assert "--port" in message
    assert "\n" not in message


def test_a_host_that_is_not_ours_is_one_line() -> None:
    for host in ("no-such-host.invalid", "203.0.113.7"):
        with pytest.raises(UserError, match=f"can't listen on {host}"):
            bind(host, 0)


@pytest.mark.parametrize(("token", "warned"), [(None, True), ("hunter2", False)])
def test_an_open_host_without_token_is_warned_of(
    token: str | None, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with bind("0.0.0.0", 0) as taken, pytest.raises(UserError):
        serve({"fake": FakeModel()}, ServeSettings(host="0.0.0.0", port=taken.getsockname()[1], token=token))
    assert ("warning: 0.0.0.0" in capsys.readouterr().err) == warned


def test_what_counts_as_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "edge-box"))


@pytest.mark.skipif(not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 here")  # noqa: PTH110
def test_url_of_an_ipv6_socket() -> None:
    with bind("::1", 0) as bound:
        assert url_of(bound) == f"http://[::1]:{bound.getsockname()[1]}"
