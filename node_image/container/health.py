"""The image's health check: does the node whose home this is answer GET /status? Standard library only, and little of it.

A node writes ready.json once it serves; before that, and after it has stopped, there is none. Exit code 0 is healthy, 1 is not; the one
line it prints is what the engine shows.
"""

import json
import socket
import sys

READY = "/home/stratos/ready.json"
TIMEOUT_SECONDS = 2.5


def main() -> int:
    """Ask once; the exit code."""
    try:
        with open(READY, "rb") as file:  # noqa: PTH123 - pathlib would double the time this takes
            port = json.load(file)["ports"]["http"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"not serving yet: {error}")
        return 1
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = connection.recv(64)
    except OSError as error:
        print(f"port {port} does not answer: {error}")
        return 1
    line = answer.split(b"\r\n")[0].decode(errors="replace")
    print(line)
    return 0 if b" 200 " in answer else 1


if __name__ == "__main__":
    sys.exit(main())
