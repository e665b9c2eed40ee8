// The line before locks and semaphores, and locks whose holder's interpreter ends.
#include "core/lock.hpp"

#include <array>

#include "core/semaphore.hpp"
#include "primitives.hpp"

using namespace fake;

TEST(a_lock_has_one_holder) {
    Interpreter& here = host().create();
    const auto lock = make<Lock>(false);
    const Caller one{*here.owner, {1, 1}}, two{*here.owner, {2, 2}};
    CHECK_EQ(lock->try_acquire(one), Status::ok);
    CHECK_EQ(lock->try_acquire(one), Status::full);
    CHECK_EQ(lock->try_acquire(two), Status::full);
    CHECK_EQ(lock->holder().interpreter, here.id);
    CHECK_EQ(lock->release(two), Status::ok);  // whoever it is
    CHECK_EQ(lock->release(two), Status::misused);
    CHECK(!lock->held());
}

TEST(a_recursive_lock_counts) {
    Interpreter& here = host().create();
    Interpreter& there = host().create();
    const auto lock = make<Lock>(true);
    const Caller one{*here.owner, {1, 1}}, two{*here.owner, {2, 2}}, one_elsewhere{*there.owner, {1, 1}};
    CHECK_EQ(lock->try_acquire(one), Status::ok);
    CHECK_EQ(lock->try_acquire(one_elsewhere), Status::ok);
    CHECK_EQ(lock->holder().interpreter, here.id);  // who took it first
    CHECK_EQ(lock->try_acquire(two), Status::full);
    CHECK_EQ(lock->release(two), Status::misused);
    CHECK_EQ(lock->release(one), Status::ok);
    CHECK_EQ(lock->depth(), 1u);
    CHECK_EQ(lock->release(one), Status::ok);
    CHECK_EQ(lock->try_acquire(two), Status::ok);
}

TEST(the_next_taker_is_told_that_the_holder_ended) {
    Interpreter& here = host().create();
    for (const bool recursive : {false, true}) {
        Interpreter& there = host().create();
        const auto lock = make<Lock>(recursive);
        CHECK_EQ(lock->try_acquire({*there.owner, {1, 1}}), Status::ok);
        host().unreference(there);
        CHECK(!lock->held());
        CHECK_EQ(lock->try_acquire({*there.owner, {1, 1}}), Status::ending);
        const Caller next{*here.owner, {2, 2}};
        CHECK_EQ(lock->try_acquire(next), Status::abandoned);
        CHECK(!lock->held());
        CHECK_EQ(lock->abandoned_by(), there.id);
        CHECK_EQ(lock->try_acquire(next), Status::ok);
    }
}

TEST(waiting_takers_are_told_one_and_served_the_others) {
    Interpreter& here = host().create();
    Interpreter& there = host().create();
    const auto lock = make<Lock>(false);
    CHECK_EQ(lock->try_acquire({*there.owner, {1, 1}}), Status::ok);
    std::atomic<int> told{0}, taken{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
            const Caller who{*here.owner, this_thread()};
            const Status status = acquire(*lock, who);
            if (status == Status::abandoned) {
                ++told;
                return;
            }
            CHECK_EQ(status, Status::ok);
            ++taken;
            CHECK_EQ(lock->release(who), Status::ok);
        });
    }
    until_parked(3);
    host().unreference(there);
    threads.clear();
    CHECK_EQ(told.load(), 1);
    CHECK_EQ(taken.load(), 2);
}

TEST(a_wait_for_a_lock_times_out) {
    Interpreter& here = host().create();
    const auto lock = make<Lock>(false);
    CHECK_EQ(lock->try_acquire({*here.owner, {1, 1}}), Status::ok);
    CHECK_EQ(acquire(*lock, {*here.owner, {2, 2}}, in_ms(5)), Status::timeout);
    CHECK_EQ(lock->release({*here.owner, {1, 1}}), Status::ok);
    CHECK_EQ(acquire(*lock, {*here.owner, {2, 2}}, in_ms(5)), Status::ok);
}

// Who is woken may be long in coming: its interpreter is busy. Nobody else waits for that.
TEST(a_free_lock_is_taken_though_the_first_in_line_does_not_come) {
    Interpreter& here = host().create();
    const auto lock = make<Lock>(false);
    const Caller holder{*here.owner, {1, 1}}, busy{*here.owner, {2, 2}}, third{*here.owner, {3, 3}};
    CHECK_EQ(lock->try_acquire(holder), Status::ok);
    Turn first(*lock, busy), second(*lock, third);
    CHECK_EQ(first.begin(), Status::parked);
    CHECK_EQ(second.begin(), Status::parked);
    CHECK_EQ(lock->release(holder), Status::ok);
    CHECK(first.settled());
    CHECK(!second.settled());
    lock->woken(first.entry());  // it is on its way, and passes the word on
    CHECK(second.settled());
    CHECK_EQ(second.finish(), Status::ok);
    CHECK_EQ(first.finish(), Status::retry);
    CHECK_EQ(first.begin(), Status::parked);
    CHECK_EQ(lock->release(third), Status::ok);
    CHECK_EQ(first.finish(), Status::ok);
}

TEST(the_word_is_passed_on_at_the_release_too) {
    Interpreter& here = host().create();
    const auto lock = make<Lock>(false);
    const Caller holder{*here.owner, {1, 1}}, busy{*here.owner, {2, 2}}, third{*here.owner, {3, 3}};
    CHECK_EQ(lock->try_acquire(holder), Status::ok);
    Turn first(*lock, busy), second(*lock, third);
    CHECK_EQ(first.begin(), Status::parked);
    CHECK_EQ(second.begin(), Status::parked);
    CHECK_EQ(lock->release(holder), Status::ok);
    CHECK_EQ(lock->try_acquire(holder), Status::ok);  // sooner than those in line
    lock->woken(first.entry());
    CHECK(!second.settled());
    CHECK_EQ(lock->release(holder), Status::ok);
    CHECK(second.settled());
    CHECK_EQ(second.finish(), Status::ok);
    CHECK_EQ(first.finish(), Status::retry);
    CHECK_EQ(lock->release(third), Status::ok);
}

TEST(who_was_too_late_for_long_is_next) {
    Interpreter& here = host().create();
    const auto lock = make<Lock>(false);
    const Caller holder{*here.owner, {1, 1}}, late{*here.owner, {2, 2}};
    CHECK_EQ(lock->try_acquire(holder), Status::ok);
    Turn turn(*lock, late);
    CHECK_EQ(turn.begin(), Status::parked);
    turn.entry().since_ns -= TurnQueue::patience_ns;  // as if it had waited for long
    CHECK_EQ(lock->release(holder), Status::ok);
    CHECK_EQ(lock->try_acquire(holder), Status::ok);
    CHECK_EQ(turn.finish(), Status::retry);
    CHECK_EQ(turn.begin(), Status::parked);
    CHECK_EQ(lock->release(holder), Status::ok);
    CHECK_EQ(lock->try_acquire(holder), Status::full);  // reserved
    CHECK_EQ(turn.finish(), Status::ok);
    CHECK_EQ(lock->release(late), Status::ok);
}

// A reservation for an interpreter that is busy binds others for a moment only.
TEST(a_reservation_ends_by_courtesy) {
    Interpreter& here = host().create();
    const auto lock = make<Lock>(false);
    const Caller holder{*here.owner, {1, 1}}, late{*here.owner, {2, 2}}, other{*here.owner, {3, 3}};
    CHECK_EQ(lock->try_acquire(holder), Status::ok);
    Turn turn(*lock, late);
    CHECK_EQ(turn.begin(), Status::parked);
    turn.entry().since_ns -= TurnQueue::patience_ns;
    CHECK_EQ(lock->release(holder), Status::ok);
    CHECK_EQ(lock->try_acquire(holder), Status::ok);
    CHECK_EQ(turn.finish(), Status::retry);
    CHECK_EQ(turn.begin(), Status::parked);
    CHECK_EQ(lock->release(holder), Status::ok);
    CHECK_EQ(acquire(*lock, other), Status::ok);
    CHECK_EQ(turn.finish(), Status::retry);
    CHECK_EQ(lock->release(other), Status::ok);
    CHECK_EQ(lock->try_acquire(other), Status::ok);
}

TEST(what_a_call_was_woken_for_that_quits_goes_to_the_next) {
    Interpreter& here = host().create();
    const auto lock = make<Lock>(false);
    const Caller holder{*here.owner, {1, 1}}, two{*here.owner, {2, 2}}, three{*here.owner, {3, 3}};
    CHECK_EQ(lock->try_acquire(holder), Status::ok);
    Turn first(*lock, two), second(*lock, three);
    CHECK_EQ(first.begin(), Status::parked);
    CHECK_EQ(second.begin(), Status::parked);
    CHECK_EQ(lock->release(holder), Status::ok);
    first.quit();
    CHECK(second.settled());
    CHECK_EQ(second.finish(), Status::ok);
}

TEST(a_semaphore_wakes_as_many_as_there_are_permits) {
    Interpreter& here = host().create();
    const auto semaphore = make<Semaphore>(0u, false);
    std::atomic<int> taken{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            CHECK_EQ(acquire(*semaphore, {*here.owner, this_thread()}), Status::ok);
            ++taken;
        });
    }
    until_parked(4);
    CHECK_EQ(semaphore->release(3), Status::ok);
    eventually([&] { return taken == 3; });
    until_parked(1);
    CHECK_EQ(semaphore->release(1), Status::ok);
    threads.clear();
    CHECK_EQ(semaphore->value(), 0u);
}

TEST(a_bounded_semaphore_refuses_too_much) {
    const auto semaphore = make<Semaphore>(2u, true);
    Interpreter& here = host().create();
    CHECK_EQ(semaphore->release(1), Status::misused);
    CHECK_EQ(semaphore->try_acquire({*here.owner, {1, 1}}), Status::ok);
    CHECK_EQ(semaphore->release(2), Status::misused);
    CHECK_EQ(semaphore->release(1), Status::ok);
    const auto unbounded = make<Semaphore>(Semaphore::most, false);
    CHECK_EQ(unbounded->release(1), Status::misused);
}

TEST(an_interpreter_that_ends_leaves_the_line) {
    Interpreter& here = host().create();
    Interpreter& there = host().create();
    const auto semaphore = make<Semaphore>(0u, false);
    Turn first(*semaphore, {*there.owner, {1, 1}}), second(*semaphore, {*here.owner, {2, 2}});
    CHECK_EQ(first.begin(), Status::parked);
    CHECK_EQ(second.begin(), Status::parked);
    CHECK_EQ(semaphore->release(1), Status::ok);
    CHECK(first.settled());
    host().unreference(there);  // before it came
    CHECK(second.settled());
    CHECK_EQ(first.finish(), Status::retry);
    CHECK_EQ(first.begin(), Status::ending);
    CHECK_EQ(second.finish(), Status::ok);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
