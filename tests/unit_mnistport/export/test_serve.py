"""The demo in examples/serve: a page to draw on, and the answers to drawings."""

import http.client
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from mnistport import Classifier
from mnistport.cli import main

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPT = EXAMPLES / "serve/serve.py"
THREE = EXAMPLES / "digits/three.png"


@pytest.fixture(scope="module")
def serve():
    spec = importlib.util.spec_from_file_location("serve", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address(serve, checkpoint):
    """A server that runs while this file is tested."""
    module = Classifier.load_from_checkpoint(checkpoint, map_location="cpu")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(serve.Handler, module))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def posted(address: str, content: bytes) -> tuple[int, dict]:
    request = urllib.request.Request(f"http://{address}/classify", content)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_page_has_a_canvas_and_asks_the_address_that_answers(address):
    with urllib.request.urlopen(f"http://{address}/", timeout=60) as answer:
        page = answer.read().decode()
    assert '<canvas id="drawing"' in page
    assert 'fetch("classify", { method: "POST"' in page
    assert "http" not in page.replace("https", "http"), "nothing is fetched elsewhere"


def test_a_drawing_gets_the_answer_of_predict(address, checkpoint, capsys):
    status, answer = posted(address, THREE.read_bytes())
    assert status == 200
    words = ["--images", str(THREE), "--ckpt_path", str(checkpoint), "--format", "json"]
    capsys.readouterr()
    assert main(["predict", *words]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert answer["class"] == said["class"]
    assert answer["probabilities"] == said["probabilities"]
    assert len(answer["seen"]) == 784
    assert max(answer["seen"]) > 200 and min(answer["seen"]) == 0


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_drawing_is_answered_in_a_sentence(address, content):
    status, answer = posted(address, content)
    assert status == 400
    assert answer["error"].startswith("the drawing: ")
    assert "\n" not in answer["error"]


def test_an_empty_sheet_is_answered_in_a_sentence(address, tmp_path):
    from PIL import Image

    Image.new("RGB", (280, 280), "white").save(tmp_path / "empty.png")
    status, answer = posted(address, (tmp_path / "empty.png").read_bytes())
    assert status == 400
    assert "no digit was found" in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "length", "status"),
    [
        ("GET", "/other", None, 404),
        ("POST", "/other", "3", 404),
        ("POST", "/classify", "x", 404),
        ("POST", "/classify", "-1", 404),
        ("POST", "/classify", "1000001", 413),
    ],
)
def test_another_request_is_refused(address, method, path, length, status):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.putrequest(method, path)
    if length:
        connection.putheader("Content-Length", length)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize("checkpoint_is", ["gone", "sound"])
def test_what_cannot_be_served_is_said_in_one_line(
    serve, checkpoint, monkeypatch, capsys, checkpoint_is
):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        path = str(checkpoint) if checkpoint_is == "sound" else "gone.ckpt"
        monkeypatch.setattr(sys, "argv", ["serve.py", path, "--port", port])
        assert serve.main() == 2
    _, err = capsys.readouterr()
    expected = "in use; name another" if checkpoint_is == "sound" else "gone.ckpt"
    assert expected in err and err.count("\n") == 1


@pytest.mark.slow
def test_the_script_says_its_address_and_ends_quietly_with_ctrl_c(checkpoint):
    words = [sys.executable, str(SCRIPT), str(checkpoint), "--port", "0"]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert started.stdout is not None
    line = started.stdout.readline().decode()
    assert line.startswith("draw at http://127.0.0.1:"), started.communicate()
    assert posted(line.split("/")[2], THREE.read_bytes())[0] == 200
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, b"")
