"""Serve a page on which one draws a digit, and classify what was drawn.

python examples/serve/serve.py CHECKPOINT [--port 8000]

It uses Python's own HTTP server, which is for one's own machine: it listens to 127.0.0.1
alone. The pictures are prepared as `mnistport predict --images` does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mnistport import Classifier
from mnistport.drawings.command import image_of, probabilities_of
from mnistport.errors import UserError

PAGE = Path(__file__).with_name("index.html")
MOST_BYTES = 1_000_000
"""The largest picture that is taken."""


def classify(module: Classifier, picture: bytes) -> dict[str, Any]:
    """The class of a picture, its ten probabilities, and the 784 pixels that were seen.

    Raises:
        UserError: It is no picture, or there is no digit in it.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(picture)
        file.flush()
        try:
            seen = image_of(Path(file.name))
        except UserError as error:
            raise UserError(str(error).replace(file.name, "the drawing")) from error
    (row,) = probabilities_of(module, seen[None])
    return {
        "class": int(row.argmax()),
        "probabilities": row.tolist(),
        "seen": seen.tolist(),
    }


class Handler(BaseHTTPRequestHandler):
    """Answers GET / with the page, and POST /classify with JSON."""

    timeout = 10  # seconds, for a browser that stops sending

    def __init__(self, module: Classifier, *connection: Any) -> None:
        self.module = module
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Send the page."""
        if self.path == "/":
            self._send(200, "text/html; charset=utf-8", PAGE.read_bytes())
        else:
            self._send(404, "text/plain", b"there is only /\n")

    def do_POST(self) -> None:
        """Classify the picture that was sent."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/classify" or not length.isdecimal():
            return self._send_json(404, {"error": "POST a picture to /classify"})
        if int(length) > MOST_BYTES:
            self.close_connection = True
            most = f"a picture has at most {MOST_BYTES:,} bytes"
            return self._send_json(413, {"error": most})
        try:
            self._send_json(200, classify(self.module, self.rfile.read(int(length))))
        except UserError as error:
            self._send_json(400, {"error": str(error)})

    def _send_json(self, status: int, answer: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing for each request."""


def main() -> int:
    """Serve until Ctrl-C. Returns the exit status."""
    options = argparse.ArgumentParser(description="Classify what one draws in a browser.")
    options.add_argument("checkpoint", metavar="CHECKPOINT", help="a file of fit")
    options.add_argument("--port", type=int, default=8000, help="default: 8000")
    args = options.parse_args()
    try:
        module = Classifier.load_from_checkpoint(args.checkpoint, map_location="cpu")
        server = ThreadingHTTPServer(("127.0.0.1", args.port), partial(Handler, module))
    except UserError as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 2
    except (OSError, OverflowError) as error:
        print(f"serve.py: --port {args.port}: {error}; name another", file=sys.stderr)
        return 2
    print(f"draw at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
