"""What the attacks of scripts/attack share: each runs in a process of its own."""
import contextlib
import socket
import ssl
import threading
import time

PATHS = "/tandem.order.v1.OrderService/"
GET, LIST, WATCH, STREAM, PLACE = (PATHS + name for name in ("GetOrder", "ListOrders", "WatchOrder", "StreamOrders", "PlaceOrder"))


class Attacker:
    """What the attacks share. `size`: how much of it, on each connection."""

    def __init__(self, ports, size, seconds, order_id, ca=None):
        """`ports`: by name; that of "admin" has no TLS."""
        self.ports, self.size, self.order_id = ports, size, order_id
        self.end = time.monotonic() + seconds
        self.contexts = {}
        for name, protocol in (("grpc", "h2"), ("http", "http/1.1")) if ca is not None else ():
            self.contexts[name] = ssl.create_default_context(cafile=ca)
            self.contexts[name].check_hostname = False
            self.contexts[name].set_alpn_protocols([protocol])
        self.connected = self.closed = 0
        self.answers = {}  # of HTTP, by status
        self.open = 1  # at once

    def left(self):
        return self.end - time.monotonic()

    def connect(self, to="grpc", handshake=True):
        connection = socket.create_connection(("127.0.0.1", self.ports[to]), timeout=max(1, self.left()))
        self.connected += 1
        if to not in self.contexts or not handshake:
            return connection
        return self.contexts[to].wrap_socket(connection)

    def note(self, data):
        """Counts the answers of HTTP that begin there."""
        for part in data.split(b"HTTP/1.1 ")[1:]:
            status = part[:3].decode(errors="replace")
            self.answers[status] = self.answers.get(status, 0) + 1

    def read(self, connection):
        """Takes what comes, in a thread."""

        def take():
            with contextlib.suppress(OSError, ValueError):
                while data := connection.recv(65536):
                    self.note(data)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        return thread

    def send(self, connection, data):
        """False: the connection was closed, or the time is over."""
        view = memoryview(data)
        try:
            for start in range(0, len(view), 1 << 16):
                connection.settimeout(max(0.01, self.left()))
                connection.sendall(view[start : start + (1 << 16)])
        except OSError as error:
            self.closed += not isinstance(error, TimeoutError)
            return False
        return True

    def again(self, data, reads=True, then=None, to="grpc"):
        """Sends `data` on one connection after the other until the time is over. `then`: sent again and again behind
        it."""
        while self.left() > 0:
            try:
                connection = self.connect(to)
            except OSError:
                time.sleep(0.01)
                continue
            if reads and to not in self.contexts:  # an ssl object takes one thread
                self.read(connection)
            good = self.send(connection, data)
            while good and then is not None and self.left() > 0:
                good = self.send(connection, then)
            if good and then is None and self.left() > 0:
                self.wait_closed(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def wait_closed(self, connection):
        """Until the gateway closes it, or the time is over."""
        try:
            connection.settimeout(max(0.01, self.left()))
            while data := connection.recv(65536):
                self.note(data)
                connection.settimeout(max(0.01, self.left()))
            self.closed += 1
        except TimeoutError:
            pass
        except OSError:
            self.closed += 1

    def many(self, data, again=b"", every=1.0, to="grpc", handshake=True):
        """Opens `size` connections, sends `data` on each, and `again` on each now and then."""
        open_ones = []
        while self.left() > 0 and len(open_ones) < self.size:
            try:
                connection = self.connect(to, handshake)
                connection.sendall(data)
                open_ones.append(connection)
            except OSError:
                self.closed += 1
                time.sleep(0.001)
        self.open = len(open_ones)
        while self.left() > 0:
            time.sleep(min(every, max(0.01, self.left())))
            for connection in open_ones if again else ():
                with contextlib.suppress(OSError):
                    connection.send(again)
