"""A server that ends the first connection while it is idle, and whose end the client's loop has not yet seen."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Self

from . import answer, conversation

OK = answer(200, conversation(id="a"))
_TIMEOUT = answer(408, headers=[("Connection", "close")])
End = Callable[[socket.socket], None]


def close(connection: socket.socket) -> None:
    """Send FIN; over TLS without its own message of an end."""
    connection.close()


def half_close(connection: socket.socket) -> None:
    """Send FIN, and stay open for what the client may still send."""
    connection.shutdown(socket.SHUT_WR)


def reset(connection: socket.socket) -> None:
    """Send RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def time_out(connection: socket.socket) -> None:
    """Say that no request came in time, which nobody asked, and send FIN."""
    connection.sendall(_TIMEOUT)
    connection.close()


def say_goodbye(connection: socket.socket) -> None:
    """End TLS by its own message, then send FIN."""
    assert isinstance(connection, ssl.SSLSocket)
    connection.settimeout(0.05)  # The client's loop, which would answer the message, stands still.
    with contextlib.suppress(OSError):
        connection.unwrap()
    connection.close()


class EndingServer:
    """Ends its first connection, after one answer, while the client's event loop stands still.

    Args:
        end: Ends the connection.
        tls: The context of a server that speaks TLS.

    Attributes:
        requests: The methods and targets of the requests that arrived.
    """

    def __init__(self, end: End, tls: ssl.SSLContext | None = None) -> None:
        self._end = end
        self._tls = tls
        self._may_end, self._has_ended = threading.Event(), threading.Event()
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._may_end.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def end_idle_connection(self) -> None:
        """End the first connection, and wait until that has arrived at the client's socket."""
        self._may_end.set()
        assert self._has_ended.wait(10)
        time.sleep(0.02)  # The loop must not run meanwhile.

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            first, _ = self._listener.accept()
            threading.Thread(target=self._serve_once, args=(first,), daemon=True).start()
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve_once(self, connection: socket.socket) -> None:
        connection = self._wrapped(connection)
        self._answer(connection)
        self._may_end.wait()
        self._end(connection)
        self._has_ended.set()
        with contextlib.suppress(OSError):
            self._answer(connection)  # what a client sends to a connection that is closed by half
        connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self._wrapped(connection) as wrapped:
            while self._answer(wrapped):
                pass

    def _wrapped(self, connection: socket.socket) -> socket.socket:
        return connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)

    def _answer(self, connection: socket.socket) -> bool:
        """Read a request and answer it; False at the end of the connection."""
        head = b""
        while b"\r\n\r\n" not in head:
            if not (received := connection.recv(1 << 16)):
                return False
            head += received
        self.requests.append(" ".join(head.decode().split(" ", 2)[:2]))
        connection.sendall(OK)
        return True
