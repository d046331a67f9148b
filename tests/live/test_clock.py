"""A machine with a wrong clock: Redis's clock decides, so nothing happens too early or too late.

The second order instance runs with another wall clock (Debian's libfaketime). It works alone for a
while, so that the results seen are its own.
"""
import datetime
import glob
import time

import tandem

(FAKETIME,) = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
TWENTY_MINUTES = 1200


class WrongClock(tandem.Live):
    MORE = ("order2",)
    ENV = {"TANDEM_ORDER_TIMERS_EVERY": "50ms"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stock("tea", 1000)

    def set_wall(self, ahead_seconds):
        """Restarts the second instance with a wall clock that is ahead (behind: negative)."""
        order2 = self.tandem.order2
        order2.terminate()
        order2.env.update(
            LD_PRELOAD=FAKETIME,
            FAKETIME=f"{ahead_seconds:+d}s",
            DONT_FAKE_MONOTONIC="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )
        self.tandem.start("order2")
        self.order2, _ = self.connect("order2")

    def place_there(self, **fields):
        return self.placing("tea", order=self.order2, **fields).result().order

    def due(self, *order_ids):
        """When the timers of these orders are due."""
        redis = self.tandem.redis_as()
        return {i: float(redis("ZSCORE", "order:{0}:timers", i)) for i in order_ids}

    def there(self, order_id):
        return self.name(self.order2.GetOrder(order_id=order_id).order)

    def doctor(self):
        rows = self.tandem.doctor()
        return [(row["result"], row["detail"]) for row in rows if row["check"] == "clock"]


class NewOrders(WrongClock):
    def test_new_orders_do_not_expire(self):
        """Placed by a clock that is behind, as the first in the stream; both instances run their timers."""
        self.set_wall(-TWENTY_MINUTES)
        with self.tandem.frozen("inventory"):
            waiting = [self.place_there().order_id, self.place("tea").order_id]
            due = self.due(*waiting)
            # A timer that is due is postponed while inventory has not read the request.
            tandem.until(
                lambda: all(now > due[i] for i, now in self.due(*waiting).items()),
                30 * tandem.SLOW,
                "the requests were due",
            )
            self.assertEqual({self.there(i) for i in waiting}, {"PENDING"})
        self.assertEqual(set(self.decided(waiting).values()), {"RESERVED"})


class StreamAhead(tandem.Live):
    """The streams end an hour in the future: an operator added an entry there by hand."""

    ENV = {"TANDEM_ORDER_TIMERS_EVERY": "50ms"}

    def near(self, seconds, what):
        self.assertLess(abs(seconds - time.time()), 60, what)

    def test_reported_times_are_true(self):
        self.stock("tea", 10)
        seconds, _ = self.tandem.redis_as()("TIME")
        ahead = (int(seconds) + 3600) * 1000
        for stream in (tandem.ORDERS, tandem.STOCK):
            self.tandem.redis_as("ops")("XADD", stream, f"{ahead}-1", "foreign", "entry")
        short = self.place("tea", hold={"seconds": 1}, wait_for_decision=True)
        held = self.place("tea", hold={"seconds": 900}, wait_for_decision=True)
        short = self.settled(short.order_id)
        self.assertEqual(self.name(short), "EXPIRED")
        self.assertEqual(self.name(self.get(held.order_id)), "RESERVED")
        self.near(held.hold_expire_time.seconds - 900, held)
        for order in (short, held):
            self.near(order.create_time.seconds, order)
            self.near(order.update_time.seconds, order)
        explained = self.order.ExplainOrder(order_id=short.order_id)
        for event in explained.explanation.events:
            self.near(event.time.seconds, explained)
        _, (life,) = self.tandem.ctl_json("explain", short.order_id)
        self.assertIn("inventory", {event["context"] for event in life["events"]})
        for event in life["events"]:
            self.near(datetime.datetime.fromisoformat(event["time"]).timestamp(), event)
        listed = [order.order_id for order in self.listed("customer")]
        self.assertEqual(listed, [held.order_id, short.order_id])


class Holds(WrongClock):
    def check_wall(self, ahead_seconds):
        held = self.place("tea", hold={"seconds": 900}, wait_for_decision=True)
        self.assertEqual(self.name(held), "RESERVED")
        self.set_wall(ahead_seconds)
        with self.tandem.frozen("order"):
            short = self.place_there(hold={"seconds": 1}, wait_for_decision=True)
            self.assertEqual(self.name(short), "RESERVED")
            self.assertLess(abs(short.create_time.seconds - time.time()), 60)
            ends = short.hold_expire_time.seconds - short.create_time.seconds
            self.assertLess(ends, 60, "the hold that is answered")
            tandem.until(
                lambda: self.there(short.order_id) == "EXPIRED",
                20 * tandem.SLOW,
                "a hold of a second expires",
            )
            self.assertEqual(self.there(held.order_id), "RESERVED", "one of 900 s does not")
        order2 = self.tandem.order2
        offset = order2.metric("tandem_clock_offset_seconds")
        self.assertLess(abs(offset - ahead_seconds), 60)
        self.assertIn("clock is wrong", order2.text())
        self.assertLess(abs(self.tandem.order.metric("tandem_clock_offset_seconds")), 60)
        direction = "ahead" if ahead_seconds > 0 else "behind"
        named = lambda: [(result, "tandem-order" in detail and direction in detail) for result, detail in self.doctor()]  # noqa: E731
        self.becomes(named, [("warn", True)])

    def test_ahead(self):
        self.check_wall(TWENTY_MINUTES)

    def test_behind(self):
        self.check_wall(-TWENTY_MINUTES)

    def test_a_right_clock_is_not_reported(self):
        self.set_wall(0)
        self.becomes(lambda: [result for result, _ in self.doctor()], ["ok"])


if __name__ == "__main__":
    tandem.main()
