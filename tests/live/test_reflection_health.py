"""Health and reflection, called with the messages of Debian's grpc-proto, as other tools do."""
import grpc
import tandem
from google.protobuf import descriptor_pb2


class Health(tandem.Live):
    def setUp(self):
        channel = self.tandem.channel()
        self.addCleanup(channel.close)
        self.health = self.protos.stub(channel, tandem.HEALTH)

    def test_check(self):
        for service in ("", tandem.ORDER_SERVICE, tandem.INVENTORY_SERVICE):
            self.assertEqual(self.health.Check(service=service).status, self.serving["SERVING"])
        self.fails(grpc.StatusCode.NOT_FOUND, self.health.Check, service="no.such.Service")

    def test_watch(self):
        """The first answer comes at once. An unknown service is reported as unknown, and the stream
        stays open, because the service may come."""
        for service, status in (("", "SERVING"), ("no.such.Service", "SERVICE_UNKNOWN")):
            stream = self.health.Watch(service=service)
            self.assertEqual(next(iter(stream)).status, self.serving[status])
            self.assertFalse(stream.done())
            stream.cancel()

    def test_services_have_it_too(self):
        for name in ("order", "inventory"):
            channel = self.tandem.channel(name)
            self.addCleanup(channel.close)
            health = self.protos.stub(channel, tandem.HEALTH)
            self.assertEqual(health.Check().status, self.serving["SERVING"])

    def test_admin(self):
        for name in ("gateway", "order", "inventory"):
            process = self.tandem.processes[name]
            self.assertEqual(process.get("/healthz")[0], 200)
            process.wait_ready()
            self.assertEqual(process.get("/nothing")[0], 404)
        self.place("admin")
        self.fails(grpc.StatusCode.INVALID_ARGUMENT, self.order.PlaceOrder)
        gateway = self.tandem.gateway
        labels = {"grpc_service": tandem.ORDER_SERVICE, "grpc_method": "PlaceOrder"}
        for code in ("OK", "InvalidArgument"):
            count = lambda code=code: gateway.metric("grpc_server_handled_total", grpc_code=code, **labels)
            tandem.until(count, 20 * tandem.SLOW, code)  # a call is counted when its answer is away


class Reflection(tandem.Live):
    VERSIONS = ("v1", "v1alpha")

    def ask(self, version, **request):
        """The answer to one request on a stream of its own."""
        return self.ask_all(version, [request])[0]

    def ask_all(self, version, requests):
        package = f"grpc.reflection.{version}"
        stub = self.protos.stub(self.channels[0], f"{package}.ServerReflection")
        kind = self.protos.message(f"{package}.ServerReflectionRequest")
        return list(stub.ServerReflectionInfo(iter([kind(**request) for request in requests])))

    def test_services_are_listed(self):
        for version in self.VERSIONS:
            answer = self.ask(version, list_services="")
            names = {service.name for service in answer.list_services_response.service}
            self.assertLessEqual(
                {
                    tandem.ORDER_SERVICE,
                    tandem.INVENTORY_SERVICE,
                    tandem.HEALTH,
                    "grpc.reflection.v1.ServerReflection",
                    "grpc.reflection.v1alpha.ServerReflection",
                },
                names,
            )

    def test_a_call_can_be_made_from_reflection_alone(self):
        """As grpcurl does it: symbol → file → the files it imports → messages → call."""
        for version in self.VERSIONS:
            files, wanted = {}, []
            answer = self.ask(version, file_containing_symbol=tandem.ORDER_SERVICE)
            while True:
                for data in answer.file_descriptor_response.file_descriptor_proto:
                    file = descriptor_pb2.FileDescriptorProto.FromString(data)
                    files[file.name] = file
                    wanted += file.dependency
                wanted = [name for name in wanted if name not in files]
                if not wanted:
                    break
                answer = self.ask(version, file_by_filename=wanted[0])
                self.assertTrue(answer.HasField("file_descriptor_response"), wanted[0])
            self.assertIn("tandem/order/v1/order_service.proto", files)

            protos = object.__new__(tandem.Protos)
            protos.pool = tandem.descriptor_pool.DescriptorPool()
            added = set()

            def add(name):
                if name not in added:
                    added.add(name)
                    for needed in files[name].dependency:
                        add(needed)
                    protos.pool.Add(files[name])

            for name in list(files):
                add(name)
            protos.factory = tandem.message_factory.MessageFactory(protos.pool)
            stub = protos.stub(self.channels[0], tandem.ORDER_SERVICE)
            order = stub.PlaceOrder(
                customer_id="reflected", lines=[{"sku": "reflected", "quantity": 1}]
            ).order
            self.assertRegex(order.order_id, "^ord_")

    def test_symbols(self):
        symbols = {
            "tandem.order.v1.Order": "tandem/order/v1/order.proto",
            "tandem.order.v1.Order.LabelsEntry": "tandem/order/v1/order.proto",
            "tandem.order.v1.OrderStatus": "tandem/order/v1/order.proto",
            "tandem.order.v1.OrderService.PlaceOrder": "tandem/order/v1/order_service.proto",
            "tandem.inventory.v1.StockAdjusted": "tandem/inventory/v1/inventory_events.proto",
            "google.rpc.Status": "google/rpc/status.proto",
            "google.protobuf.Timestamp": "google/protobuf/timestamp.proto",
            tandem.HEALTH: "grpc/health/v1/health.proto",
        }
        for version in self.VERSIONS:
            for symbol, file in symbols.items():
                with self.subTest(version=version, symbol=symbol):
                    answer = self.ask(version, file_containing_symbol=symbol)
                    found = [
                        descriptor_pb2.FileDescriptorProto.FromString(data).name
                        for data in answer.file_descriptor_response.file_descriptor_proto
                    ]
                    self.assertIn(file, found)

    def test_unknown_names(self):
        not_found = grpc.StatusCode.NOT_FOUND.value[0]
        for version in self.VERSIONS:
            requests = [
                {"file_by_filename": "no/such.proto"},
                {"file_containing_symbol": "no.such.Symbol"},
                {"file_containing_symbol": ""},
                {
                    "file_containing_extension": {
                        "containing_type": "tandem.order.v1.Order",
                        "extension_number": 1,
                    }
                },
                {"all_extension_numbers_of_type": "no.such.Type"},
            ]
            answers = self.ask_all(version, requests)
            self.assertEqual(len(answers), len(requests), "one stream, an answer for each")
            for request, answer in zip(requests, answers):
                with self.subTest(version=version, request=request):
                    self.assertEqual(answer.error_response.error_code, not_found)
            answer = self.ask(
                version, all_extension_numbers_of_type="tandem.order.v1.Order"
            ).all_extension_numbers_response
            self.assertEqual(list(answer.extension_number), [])
            self.assertEqual(answer.base_type_name, "tandem.order.v1.Order")


if __name__ == "__main__":
    tandem.main()
