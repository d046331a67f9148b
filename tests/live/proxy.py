"""A proxy that passes bytes, and cuts, halves and delays connections on demand."""
import contextlib
import socket
import threading
import time


class Proxy:
    """Listens on a unix socket or a TCP port of this machine, and passes bytes to another port. Two threads a
    connection."""

    def __init__(self, listen, port):
        """`listen`: a path, or a port."""
        self.port, self.lock, self.pairs = port, threading.Lock(), []
        self.pass_bytes, self.delay_until = None, 0.0
        unix = isinstance(listen, str)
        self.listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if not unix:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(listen if unix else ("127.0.0.1", listen))
        self.listener.listen(128)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_INET)
            try:
                server.connect(("127.0.0.1", self.port))
            except OSError:
                client.close()
                server.close()
                continue
            for end in (client, server):
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.append((client, server))
            for source, target in ((client, server), (server, client)):
                thread = threading.Thread(target=self.carry, args=(source, target), daemon=True)
                thread.start()

    def carry(self, source, target):
        try:
            while data := source.recv(65536):
                wait = self.delay_until - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                some = self.pass_bytes
                if some is not None and len(data) > some:
                    self.pass_bytes = None
                    target.sendall(data[:some])
                    break
                target.sendall(data)
        except OSError:
            pass
        self.close(source, target)

    def close(self, *pair):
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self.lock:
            self.pairs = [kept for kept in self.pairs if kept[0] not in pair]

    def cut(self):
        """Cuts every connection at once."""
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self.close(*pair)

    def halve(self, some):
        """Sends only `some` bytes of the next message that is longer, and cuts its connection."""
        self.pass_bytes = some

    def delay(self, seconds):
        self.delay_until = time.monotonic() + seconds

    def heal(self):
        self.pass_bytes, self.delay_until = None, 0.0
