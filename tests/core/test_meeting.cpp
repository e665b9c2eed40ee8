// Events, conditions, barriers and counters, with threads.
#include <algorithm>
#include <array>

#include "core/barrier.hpp"
#include "core/condition.hpp"
#include "core/counter.hpp"
#include "core/event.hpp"
#include "primitives.hpp"

using namespace fake;

namespace {

Caller here() {
    static Interpreter& interpreter = host().create();
    return {*interpreter.owner, this_thread()};
}

Status wait(Event& event, Deadline deadline = Deadline::never()) {
    Waiter waiter(here().owner.id(), "Event.wait", event.id());
    Entry entry;
    entry.waiter = &waiter;
    if (event.enlist(entry) == Status::ok) return Status::ok;
    static_cast<void>(waiter.wait(deadline, &event.spin()));
    return event.finish(entry);
}

// With the lock held, and held again afterwards.
Status wait(Condition& condition, Deadline deadline = Deadline::never()) {
    const Caller who = here();
    Waiter waiter(who.owner.id(), "Condition.wait", condition.id());
    Entry entry;
    entry.waiter = &waiter;
    condition.enlist(entry);
    std::size_t depth = 0;
    CHECK_EQ(condition.lock().release_all(who, depth), Status::ok);
    static_cast<void>(waiter.wait(deadline, &condition.spin()));
    const Status status = condition.finish(entry);
    CHECK_EQ(acquire(condition.lock(), who), Status::ok);
    condition.lock().restore(depth);
    return status;
}

Status wait(Barrier& barrier, OwnerId who, std::uint32_t& place, Deadline deadline = Deadline::never()) {
    Waiter waiter(who, "Barrier.wait", barrier.id());
    Entry entry;
    entry.waiter = &waiter;
    for (;;) {
        const Barrier::Arrival arrival = barrier.arrive(entry, who);
        if (arrival.status == Status::ok) {
            if (arrival.acts && !barrier.end_action(arrival.meeting, true)) return Status::broken;
            place = static_cast<std::uint32_t>(barrier.parties() - 1);
        }
        if (arrival.status != Status::parked) return arrival.status;
        static_cast<void>(waiter.wait(deadline, &barrier.spin()));
        const Status status = barrier.finish(entry);
        place = waiter.settlement().index;
        if (status != Status::retry) return status;
        waiter.begin_again();
    }
}

}  // namespace

TEST(an_event_wakes_all_who_wait) {
    const auto event = make<Event>();
    CHECK_EQ(wait(*event, in_ms(2)), Status::timeout);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { CHECK_EQ(wait(*event), Status::ok); });
    until_parked(4);
    event->set();
    event->clear();  // those who were woken go on
    threads.clear();
    CHECK_EQ(wait(*event, in_ms(2)), Status::timeout);
    event->set();
    CHECK_EQ(wait(*event), Status::ok);
}

TEST(a_condition_wakes_those_who_came_first) {
    auto lock = make<Lock>(true);
    const auto condition = make<Condition>(lock);
    std::atomic<int> ready{0}, woken{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
            CHECK_EQ(acquire(*lock, here()), Status::ok);
            ++ready;
            CHECK_EQ(wait(*condition), Status::ok);
            ++woken;
            CHECK_EQ(lock->release(here()), Status::ok);
        });
    }
    eventually([&] { return condition->waiting() == 3; });
    CHECK_EQ(ready.load(), 3);
    condition->notify(2);
    eventually([&] { return woken == 2; });
    CHECK_EQ(condition->waiting(), 1u);
    condition->notify(5);
    threads.clear();
    CHECK_EQ(woken.load(), 3);
}

TEST(a_notification_that_cannot_be_used_goes_on) {
    Interpreter& there = host().create();
    auto lock = make<Lock>(false);
    const auto condition = make<Condition>(lock);
    Waiter first(there.id, "Condition.wait", condition->id()), second(here().owner.id(), "", 0),
        third(here().owner.id(), "", 0);
    std::array<Entry, 3> entries;
    Waiter* const waiters[] = {&first, &second, &third};
    for (std::size_t i = 0; i < 3; ++i) {
        entries[i].waiter = waiters[i];
        condition->enlist(entries[i]);
    }
    condition->notify(1);
    CHECK(first.settled());
    CHECK(!second.settled());
    host().unreference(there);
    CHECK(second.settled());
    condition->withdraw(entries[1]);  // interrupted
    CHECK(third.settled());
    CHECK_EQ(condition->finish(entries[0]), Status::ending);
    CHECK_EQ(condition->finish(entries[2]), Status::ok);
    CHECK_EQ(condition->waiting(), 0u);
}

TEST(a_barrier_lets_go_together_again_and_again) {
    for (const bool acts : {false, true}) {
        const auto barrier = make<Barrier>(3u, acts);
        std::array<std::atomic<int>, 50> arrived{};
        std::array<std::atomic<int>, 50> places{};
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([&] {
                for (std::size_t round = 0; round < arrived.size(); ++round) {
                    ++arrived[round];
                    std::uint32_t place = 9;
                    CHECK_EQ(wait(*barrier, here().owner.id(), place), Status::ok);
                    CHECK_EQ(arrived[round].load(), 3);
                    places[round] += 1 << (4 * place);
                }
            });
        }
        threads.clear();
        for (const auto& taken : places) CHECK_EQ(taken.load(), 0x111);  // each place once
        CHECK_EQ(barrier->waiting(), 0u);
        CHECK(!barrier->broken());
    }
}

TEST(a_barrier_that_is_late_is_broken_for_all) {
    const auto barrier = make<Barrier>(3u, false);
    std::jthread other([&] {
        std::uint32_t place;
        CHECK_EQ(wait(*barrier, here().owner.id(), place), Status::broken);
    });
    eventually([&] { return barrier->waiting() == 1; });
    std::uint32_t place;
    CHECK_EQ(wait(*barrier, here().owner.id(), place, in_ms(2)), Status::timeout);
    other.join();
    CHECK(barrier->broken());
    CHECK_EQ(wait(*barrier, here().owner.id(), place), Status::broken);
    barrier->reset();
    CHECK(!barrier->broken());
}

TEST(a_party_whose_interpreter_ends_breaks_the_barrier) {
    Interpreter& there = host().create();
    const auto barrier = make<Barrier>(3u, false);
    std::jthread gone([&] {
        std::uint32_t place;
        CHECK_EQ(wait(*barrier, there.id, place), Status::ending);
    });
    std::jthread other([&] {
        std::uint32_t place;
        CHECK_EQ(wait(*barrier, here().owner.id(), place), Status::broken);
    });
    eventually([&] { return barrier->waiting() == 2; });
    host().unreference(there);
    gone.join();
    other.join();
    CHECK(barrier->broken());
}

TEST(who_acts_and_ends_breaks_the_barrier) {
    Interpreter& there = host().create();
    const auto barrier = make<Barrier>(1u, true);
    Waiter waiter(there.id, "Barrier.wait", barrier->id());
    Entry entry;
    entry.waiter = &waiter;
    const Barrier::Arrival arrival = barrier->arrive(entry, there.id);
    CHECK(arrival.acts);
    std::jthread early([&] {  // for the next meeting
        std::uint32_t place;
        CHECK_EQ(wait(*barrier, here().owner.id(), place), Status::broken);
    });
    until_parked(1);
    host().unreference(there);
    early.join();
    CHECK(barrier->broken());
    CHECK(!barrier->end_action(arrival.meeting, true));
}

TEST(a_counter_adds_from_many_threads) {
    const auto counter = make<Counter>(0);
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&counter, i] {
                std::int64_t sum;
                for (int k = 0; k < 1000; ++k) CHECK(counter->add(i, sum));
            });
        }
    }
    CHECK_EQ(counter->value(), 6000);
    std::int64_t sum;
    CHECK(!counter->add(INT64_MAX, sum));
    CHECK_EQ(counter->value(), 6000);
    CHECK(!counter->compare_exchange(1, 2));
    CHECK(counter->compare_exchange(6000, INT64_MIN));
    CHECK(!counter->add(-1, sum));
}

TEST(a_primitive_is_found_by_its_id_while_it_is_alive) {
    auto event = make<Event>();
    const std::uint64_t id = event->id();
    CHECK(registry().primitives.find(id).get() == event.get());
    event.reset();
    CHECK(!registry().primitives.find(id));
}

int main(int count, char** arguments) { return check::run(count, arguments); }
