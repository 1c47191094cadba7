"""A server on this machine that offers one file at an address, and as the Hugging Face hub does."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def weights_server(content, requests):
    """Yield the address of a server that answers every path with ``content`` and appends it to ``requests``.

    ``/elsewhere…`` is redirected to a host that is neither reached by https nor this machine.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.send_response(302 if self.path.startswith("/elsewhere") else 200)
            if self.path.startswith("/elsewhere"):
                self.send_header("Location", "http://example.invalid/w.safetensors")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 - the name that the library looks for

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
