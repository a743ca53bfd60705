"""A line between a client and a server that breaks or stalls where it is told to."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Cutter:
    """Passes bytes to `port` and back, both ways at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut_after: list[int] = []
        """For each of the next connections over which so much is sent, the bytes after which it breaks."""
        self.stall_after: int | None = None
        """Once so many bytes were sent over a connection, nothing passes any more."""
        self.away = False
        """Whether every connection ends as soon as it is made or used."""
        self.cuts = 0
        self.sent = 0
        """Bytes that came from clients."""

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as server:
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()
            passed = 0
            while data := client.recv(2**16):
                if self.away:
                    return
                self.sent += len(data)
                passed += len(data)
                if self.cut_after and passed >= self.cut_after[0]:
                    self.cut_after.pop(0)
                    self.cuts += 1
                    # Not a goodbye, but a reset: as when a network goes.
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                while self.stall_after is not None and passed >= self.stall_after:
                    time.sleep(0.05)
                server.sendall(data)

    @staticmethod
    def _back(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(2**16):
                client.sendall(data)
        # Also when the server was killed: else the client would wait for ever.
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutter(port: int) -> Iterator[Cutter]:
    made = Cutter(port)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
