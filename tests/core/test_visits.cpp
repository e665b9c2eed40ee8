// Reaching into other interpreters: visits, callbacks for them, and waking or interrupting their calls.
#include <atomic>

#include "blocking.hpp"

using namespace fake;

namespace {

constexpr auto no_spin = static_cast<Spin*>(nullptr);

WaiterList& waiters() { return registry().waiters; }
CallbackTable& callbacks() { return registry().callbacks; }

// A thread that waits in an interpreter, counting how often it was let look around.
struct Parked {
    explicit Parked(OwnerId interpreter) : waiter(interpreter, "recv", 5) {
        thread = std::thread([this] {
            native = static_cast<pid_t>(syscall(SYS_gettid));
            Status status;
            while ((status = waiter.wait(Deadline::never(), no_spin)) == Status::interrupted) ++looks;
            outcome = status;
        });
    }
    void join() { thread.join(); }

    Waiter waiter;
    std::atomic<pid_t> native{0};
    std::atomic<int> looks{0};
    std::atomic<Status> outcome{Status::parked};
    std::thread thread;
};

}  // namespace

TEST(a_visit_runs_attached_and_comes_back) {
    fake::Interpreter& visited = host().create();
    fake::Interpreter& home = host().create();
    const Attached attached(home);
    OwnerId seen = no_owner;
    CHECK(registry().owners.visit(*visited.owner, [&] { seen = host().current(); }));
    CHECK_EQ(seen, visited.id);
    CHECK_EQ(host().current(), home.id);
}

TEST(a_visit_at_home_switches_nothing) {
    fake::Interpreter& home = host().create();
    const Attached attached(home);
    const long entries = host().entries();
    bool ran = false;
    CHECK(registry().owners.visit(*home.owner, [&] { ran = true; }));
    CHECK(ran);
    CHECK_EQ(host().entries(), entries);
}

TEST(an_interpreter_that_ended_is_not_visited) {
    fake::Interpreter& ended = host().create();
    host().end(ended);
    CHECK(!registry().owners.visit(*ended.owner, [] { CHECK(false); }));
}

// Whoever gets the interpreter first, the visitor or its end: a visit that began is not cut off.
TEST(the_end_lets_a_visitor_in_that_is_on_its_way) {
    for (int turn = 0; turn < 50; ++turn) {
        fake::Interpreter& visited = host().create();
        std::atomic<bool> ran{false};
        std::thread visitor;
        std::thread ender;
        {
            const Attached busy(visited);
            visitor = std::thread([&] {
                CHECK(registry().owners.visit(*visited.owner, [&] {
                    CHECK(!visited.ended);
                    ran = true;
                }));
            });
            eventually([] { return host().entering() == 1; });
            ender = std::thread([&] { host().end(visited); });
        }
        ender.join();
        CHECK(ran);
        visitor.join();
    }
}

TEST(callbacks_come_in_order_and_to_their_interpreter_only) {
    host();
    const OwnerId one = new_id();
    const OwnerId two = new_id();
    for (std::uint64_t number = 0; number < 3; ++number) callbacks().push(one, numbered(number));
    CHECK(callbacks().any(one));
    CHECK(!callbacks().any(two));
    CHECK(!callbacks().pop(two));
    for (std::uint64_t number = 0; number < 3; ++number) CHECK_EQ(number_of(callbacks().pop(one)), number);
    CHECK(!callbacks().any(one));
    CHECK(!callbacks().pop(one));
}

TEST(forgotten_callbacks_give_back_what_they_brought) {
    fake::Interpreter& owner = host().create();
    const OwnerId other = new_id();
    Tally tally;
    callbacks().push(other, numbered(1, lend(owner, tally)));
    callbacks().push(other, numbered(2, lend(owner, tally)));
    CHECK_EQ(tally.given_back.load(), 0);
    callbacks().clear(other);
    CHECK_EQ(tally.given_back.load(), 2);
    CHECK(!callbacks().any(other));
}

TEST(a_nudge_lets_a_parked_call_look_around_undecided) {
    host();
    const OwnerId interpreter = new_id();
    const std::size_t before = waiters().size();
    Parked parked(interpreter);
    until_parked(before + 1);
    for (int turn = 1; turn <= 100; ++turn) {
        waiters().nudge(interpreter);
        eventually([&] { return parked.looks >= turn; });
    }
    waiters().nudge(new_id());
    CHECK(!parked.waiter.settled());
    CHECK(parked.waiter.settle(Status::ok, 3));
    parked.join();
    CHECK_EQ(parked.outcome.load(), Status::ok);
    CHECK_EQ(parked.waiter.settlement().index, 3u);
}

TEST(one_call_looks_around_for_all) {
    host();
    const OwnerId interpreter = new_id();
    const std::size_t before = waiters().size();
    Parked first(interpreter);
    Parked second(interpreter);
    until_parked(before + 2);
    waiters().nudge(interpreter);
    eventually([&] { return first.looks + second.looks > 0; });
    CHECK(first.waiter.settle(Status::ok, 0));
    CHECK(second.waiter.settle(Status::ok, 0));
    first.join();
    second.join();
    CHECK_EQ(first.looks + second.looks, 1);
}

TEST(a_call_that_parks_while_callbacks_are_queued_looks_first) {
    host();
    const OwnerId interpreter = new_id();
    callbacks().push(interpreter, numbered(1));
    Waiter waiter(interpreter, "recv", 5);
    CHECK_EQ(waiter.wait(Deadline::never(), no_spin), Status::interrupted);
    callbacks().clear(interpreter);
    CHECK_EQ(waiter.wait(in_ms(1), no_spin), Status::timeout);
}

TEST(nudges_settlements_and_time_outs_at_once_lose_nothing) {
    host();
    const OwnerId interpreter = new_id();
    std::atomic<bool> stop{false};
    std::thread nudger([&] {
        while (!stop) waiters().nudge(interpreter);
    });
    Waiter waiter(interpreter, "recv", 5);
    std::mutex mutex;  // what a settlement is made under, and taken once more by the waiting call
    for (std::uint32_t turn = 0; turn < 3000; ++turn) {
        std::thread settler([&, turn] {
            std::lock_guard lock(mutex);
            CHECK(waiter.settle(Status::ok, turn));
        });
        Status status = Status::timeout;
        while (status != Status::ok) status = waiter.wait(Deadline::after_ns(turn % 7 * 1000), no_spin);
        settler.join();
        CHECK_EQ(waiter.settlement().index, turn);
        waiter.begin_again();
    }
    stop = true;
    nudger.join();
}

TEST(an_interrupt_decides_the_call_of_that_thread_only) {
    host();
    const OwnerId interpreter = new_id();
    const std::size_t before = waiters().size();
    Parked first(interpreter);
    Parked second(interpreter);
    until_parked(before + 2);
    CHECK(!waiters().interrupt(new_id(), first.native));
    CHECK(waiters().interrupt(interpreter, first.native));
    first.join();
    CHECK_EQ(first.outcome.load(), Status::ok);
    CHECK_EQ(first.waiter.settlement().status, Status::interrupted);
    CHECK(!waiters().interrupt(interpreter, first.native));
    CHECK(!second.waiter.settled());
    CHECK(second.waiter.settle(Status::ok, 0));
    second.join();
}

TEST(a_thread_is_armed_until_it_is_disarmed) {
    host();
    InterruptTable& interrupts = registry().interrupts;
    interrupts.arm({71, 5, 99, 100});
    interrupts.arm({72, 6, 99, 100});
    const std::optional<ArmedThread> found = interrupts.find(71);
    CHECK(found);
    CHECK_EQ(found->interpreter, 5);
    CHECK_EQ(found->thread, 99u);
    CHECK_EQ(found->native_thread, 100);
    interrupts.mask(100, true);
    CHECK(!interrupts.find(71) && !interrupts.find(72));
    interrupts.mask(101, false);
    CHECK(!interrupts.find(71));
    interrupts.mask(100, false);
    CHECK(interrupts.find(71) && interrupts.find(72));
    interrupts.disarm(71);
    interrupts.disarm(70);
    CHECK(!interrupts.find(71));
    CHECK(interrupts.find(72));
    interrupts.disarm(72);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
