from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from vllmd.scheduler.leases import Lease, LeaseBook


def test_a_lease_lasts_its_length() -> None:
    """It is there until its time has come, then gone, and returned once."""
    book = LeaseBook()
    lease = book.grant("a", "e", 10.0, now=100.0)

    assert book.expire(109.9) == []
    assert book.expire(110.0) == [lease]
    assert book.get("a") is None
    assert book.expire(200.0) == []


def test_a_held_lease_has_no_end_of_its_own() -> None:
    """A lease without a length lasts until somebody ends it, whatever is done to it before."""
    book = LeaseBook()
    lease = book.grant("a", "e", None, now=0.0)
    book.renew(lease, 5.0, now=0.0)
    book.begin_use(lease)
    book.end_use(lease, now=1.0)

    assert book.expire(1e9) == []
    assert lease.ttl is None
    assert book.release("a") is lease
    assert book.release("a") is None


def test_use_keeps_a_lease_and_begins_it_anew() -> None:
    """While generations run it does not expire; after the last it lasts its whole length again."""
    book = LeaseBook()
    lease = book.grant("a", "e", 10.0, now=0.0)
    book.begin_use(lease)
    book.begin_use(lease)
    book.end_use(lease, now=50.0)

    assert book.expire(1000.0) == []

    book.end_use(lease, now=1000.0)

    assert book.expire(1009.0) == []
    assert book.expire(1010.0) == [lease]


def test_a_renewal_may_change_the_length() -> None:
    """A new length holds for later renewals as well."""
    book = LeaseBook()
    lease = book.grant("a", "e", 10.0, now=0.0)
    book.renew(lease, 60.0, now=5.0)
    renewed = lease.expires
    book.renew(lease, None, now=100.0)

    assert renewed == 65.0
    assert lease.expires == 160.0


def test_the_end_of_an_engine_ends_its_leases_alone() -> None:
    """Leases on other engines stay."""
    book = LeaseBook()
    for key, engine in (("a", "one"), ("b", "one"), ("c", "two")):
        book.grant(key, engine, 10.0, now=0.0)
    book.drop_engine("one")

    assert book.count("one") == 0
    assert book.count("two") == 1
    assert book.get("a") is None


class Book(RuleBasedStateMachine):
    """Any order of grants, uses, renewals, releases and expiries."""

    leases: Bundle[Lease] = Bundle("leases")
    uses: Bundle[Lease] = Bundle("uses")

    def __init__(self) -> None:
        super().__init__()
        self.book = LeaseBook()
        self.now = 0.0
        self.granted = 0
        self.ended = 0

    @rule(target=leases, ttl=st.none() | st.floats(0.1, 100.0), engine=st.sampled_from("xy"))
    def grant(self, ttl: float | None, engine: str) -> Lease:
        self.granted += 1
        return self.book.grant(str(self.granted), engine, ttl, self.now)

    @rule(target=uses, lease=leases)
    def begin(self, lease: Lease) -> Lease:
        self.book.begin_use(lease)
        return lease

    @rule(lease=consumes(uses))
    def end(self, lease: Lease) -> None:
        self.book.end_use(lease, self.now)

    @rule(lease=leases, ttl=st.none() | st.floats(0.1, 100.0))
    def renew(self, lease: Lease, ttl: float | None) -> None:
        self.book.renew(lease, ttl, self.now)

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        self.ended += self.book.release(lease.id) is not None

    @rule(seconds=st.floats(0.0, 200.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        over = self.book.expire(self.now)
        self.ended += len(over)

        assert all(not lease.running and lease.ttl is not None for lease in over)

    @invariant()
    def every_lease_is_counted_once(self) -> None:
        assert self.book.count("x") + self.book.count("y") == self.granted - self.ended

    @invariant()
    def nothing_is_negative(self) -> None:
        known = [self.book.get(str(number)) for number in range(1, self.granted + 1)]

        assert all(lease.running >= 0 for lease in known if lease is not None)


TestAnyOrder = Book.TestCase
