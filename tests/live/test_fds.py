"""File descriptors run out: the gateway closes new connections, and serves again when there is room.

Without our guard, gRPC 1.51's listener would never accept again (CVE-2023-4785)."""
import socket

import tandem


class Descriptors(tandem.Live):
    FILES_MAX = {"gateway": 64}

    def test_300_idle_connections(self):
        self.place("fds")
        address = ("127.0.0.1", self.tandem.ports["gateway"])
        for _ in range(2):
            connections = []
            for _ in range(300):
                connection = socket.socket()
                connection.settimeout(20 * tandem.SLOW)
                connection.connect(address)
                connections.append(connection)

            closed = set()

            def enough():
                """The gateway closes those at once for which it has no descriptor."""
                for number, connection in enumerate(connections):
                    if number in closed:
                        continue
                    connection.setblocking(False)
                    try:
                        data = connection.recv(4096)
                        while data:
                            data = connection.recv(4096)
                        closed.add(number)
                    except ConnectionResetError:
                        closed.add(number)
                    except BlockingIOError:
                        pass
                return len(closed) >= 300 - 64

            tandem.until(enough, 20 * tandem.SLOW, lambda: f"{len(closed)} of 300 closed")
            # The connection made before still works.
            self.place("fds")
            for connection in connections:
                connection.close()

            def served():
                order, _ = self.connect()
                try:
                    return order.PlaceOrder(
                        customer_id="c", lines=[{"sku": "fds", "quantity": 1}], _timeout=10 * tandem.SLOW
                    ).order.order_id
                except tandem.grpc.RpcError:
                    return None

            tandem.until(served, 30 * tandem.SLOW, "a new connection is served")


if __name__ == "__main__":
    tandem.main()
