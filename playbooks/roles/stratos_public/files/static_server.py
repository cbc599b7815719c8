"""Serves the files of one folder over HTTP, for machines where no web server can be installed. Standard library only.

GET and HEAD of files directly in the folder, nothing else: no listing, no sub-folder, no hidden file, no link out of it. Bounded:
so many connections at once, so many seconds for each.
"""

import argparse
import http.server
import os
import pathlib
import signal
import socket
import sys
import threading

MOST_CONNECTIONS = 64
PATIENCE_SECONDS = 15
TYPES = {".json": "application/json", ".html": "text/html; charset=utf-8"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "stratos-public"
    sys_version = ""
    timeout = PATIENCE_SECONDS
    root = ""

    def do_GET(self):
        """A file with its bytes."""
        self._answer(body=True)

    def do_HEAD(self):
        """A file without its bytes."""
        self._answer(body=False)

    def _answer(self, *, body):
        name = self.path.partition("?")[0].lstrip("/") or "index.html"
        kind = TYPES.get(pathlib.PurePath(name).suffix)
        if kind is None or "/" in name or name.startswith("."):
            self.send_error(404, "no such file")
            return
        try:
            descriptor = os.open(pathlib.Path(self.root, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            self.send_error(404, "no such file")
            return
        with os.fdopen(descriptor, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.send_header("Cache-Control", "no-cache")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", POLICY)
            self.end_headers()
            if body:
                self.connection.sendfile(file, 0, length or None)

    def log_message(self, *_arguments):
        """Who reads is nobody's business."""


class Server(http.server.ThreadingHTTPServer):
    """Both families on one socket; connections over the bound are closed at once."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address, handler):
        self.room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request, client_address):
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request, client_address):
        """A reader that goes away is no news."""


def main():
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("root")
    options = parser.parse_args()
    Handler.root = options.root
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(("::", options.port), Handler) as server:
        print("serving", options.root, "on port", server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
