#include <pthread.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "blocking.hpp"

using namespace fake;

namespace {

constexpr auto no_spin = static_cast<Spin*>(nullptr);

// Signals that interrupt waits: a handler without SA_RESTART, as CPython installs them.
void catch_signals() {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, nullptr);
}

}  // namespace

TEST(a_fresh_waiter_is_undecided) {
    host();
    Waiter waiter(1, "recv", 5);
    CHECK(!waiter.settled());
    CHECK_EQ(waiter.settlement().status, Status::parked);
    CHECK_EQ(waiter.interpreter(), 1);
}

TEST(the_first_settlement_stands) {
    host();
    Waiter waiter(1, "recv", 5);
    CHECK(waiter.settle(Status::poisoned, 0xfedcba98u));
    CHECK(!waiter.settle(Status::ok, 1));
    CHECK_EQ(waiter.settlement().status, Status::poisoned);
    CHECK_EQ(waiter.settlement().index, 0xfedcba98u);
    CHECK_EQ(waiter.wait(Deadline::never(), no_spin), Status::ok);
}

TEST(a_wait_times_out_and_can_be_settled_later) {
    host();
    Waiter waiter(1, "recv", 5);
    CHECK_EQ(waiter.wait(Deadline::after_ns(0), no_spin), Status::timeout);
    const std::int64_t start = monotonic_ns();
    CHECK_EQ(waiter.wait(in_ms(5), no_spin), Status::timeout);
    CHECK(monotonic_ns() - start >= 5'000'000);
    CHECK(!waiter.settled());
    CHECK(waiter.settle(Status::ok, 0));
    CHECK_EQ(waiter.wait(in_ms(0), no_spin), Status::ok);
}

TEST(a_deadline_too_far_to_count_is_never) {
    const Deadline deadline = Deadline::after_ns(std::numeric_limits<std::int64_t>::max());
    CHECK(deadline.is_never());
    CHECK(!deadline.passed());
    CHECK(deadline.sooner(Deadline::after_ns(0)).passed());
    CHECK(Deadline::after_ns(0).sooner(deadline).passed());
}

TEST(a_parked_call_is_woken_and_one_settler_wins) {
    host();
    for (int round = 0; round < 500; ++round) {
        Waiter waiter(1, "recv", 5);
        std::mutex lock;  // the lifetime rule: settle() under a lock that the waiting call takes again
        std::atomic<int> winners{0};
        std::vector<std::thread> settlers;
        for (std::uint32_t i = 0; i < 3; ++i) {
            settlers.emplace_back([&, i] {
                if (round % 2) eventually([&] { return registry().waiters.size() == 1; });
                std::lock_guard guard(lock);
                if (waiter.settle(Status::ok, i)) winners += 1 + static_cast<int>(i) * 16;
            });
        }
        CHECK_EQ(waiter.wait(Deadline::never(), no_spin), Status::ok);
        {
            std::lock_guard guard(lock);
        }
        for (auto& settler : settlers) settler.join();
        CHECK_EQ(winners.load(), 1 + static_cast<int>(waiter.settlement().index) * 16);
    }
    CHECK_EQ(registry().waiters.size(), 0u);
}

TEST(begin_again_forgets_all_of_it) {
    host();
    Waiter waiter(1, "select", 0);
    for (int round = 0; round < 200; ++round) {
        std::mutex lock;
        std::thread settler([&] {
            if (round % 2) until_parked(1);
            std::lock_guard guard(lock);
            waiter.settle(Status::ok, 3);
        });
        CHECK_EQ(waiter.wait(Deadline::never(), no_spin), Status::ok);
        {
            std::lock_guard guard(lock);
        }
        settler.join();
        waiter.begin_again();
        CHECK(!waiter.settled());
        CHECK_EQ(registry().waiters.size(), 0u);
        // No wake-up is left over from before.
        CHECK_EQ(waiter.wait(Deadline::after_ns(0), no_spin), Status::timeout);
        waiter.begin_again();
    }
}

TEST(signals_interrupt_a_parked_call_and_lose_no_settlement) {
    host();
    catch_signals();
    Waiter waiter(1, "recv", 5);
    int interrupted = 0;
    for (int round = 0; round < 300; ++round) {
        std::mutex lock;
        std::atomic<bool> done{false};
        const pthread_t waiting = pthread_self();
        std::thread signaller([&] {
            while (!done) {
                pthread_kill(waiting, SIGUSR1);
                std::this_thread::yield();
            }
        });
        std::thread settler([&] {
            until_parked(1);
            if (round % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(round));
            std::lock_guard guard(lock);
            CHECK(waiter.settle(Status::ok, 1));
        });
        Status status;
        while ((status = waiter.wait(Deadline::never(), no_spin)) != Status::ok) {
            CHECK_EQ(status, Status::interrupted);
            ++interrupted;
        }
        CHECK(waiter.settled());
        {
            std::lock_guard guard(lock);
        }
        settler.join();
        done = true;
        signaller.join();
        waiter.begin_again();
        CHECK_EQ(waiter.wait(Deadline::after_ns(0), no_spin), Status::timeout);
        waiter.begin_again();
    }
    CHECK(interrupted > 0);
}

TEST(timeouts_that_meet_a_settlement_lose_nothing) {
    host();
    Waiter waiter(1, "recv", 5);
    int late = 0;
    for (int round = 0; round < 500; ++round) {
        std::mutex lock;
        bool won = false;
        const Deadline deadline = Deadline::after_ns(60'000);
        std::thread settler([&] {
            while (monotonic_ns() % 64 || !deadline.passed()) {
            }
            std::lock_guard guard(lock);
            won = waiter.settle(Status::ok, 1);
        });
        const Status status = waiter.wait(deadline, no_spin);
        {
            std::lock_guard guard(lock);
            if (!waiter.settled()) {
                CHECK_EQ(status, Status::timeout);
                CHECK(waiter.settle(Status::timeout, 0));
            } else if (status == Status::timeout) {
                ++late;
            }
        }
        settler.join();
        CHECK_EQ(won, waiter.settlement().status == Status::ok);
        waiter.begin_again();
        CHECK_EQ(waiter.wait(Deadline::after_ns(0), no_spin), Status::timeout);
        waiter.begin_again();
    }
}

TEST(parked_calls_are_listed_with_what_they_wait_for) {
    host();
    const std::int64_t start = monotonic_ns();
    const OwnerId who = new_id();
    std::atomic<pid_t> thread{0};
    std::mutex lock;
    Waiter waiter(who, "recv", 42, Side::recv);
    waiter.limit(in_ms(1'000'000));
    std::thread waiting([&] {
        thread = static_cast<pid_t>(syscall(SYS_gettid));
        CHECK_EQ(waiter.wait(Deadline::never(), no_spin), Status::ok);
        std::lock_guard guard(lock);
        waiter.begin_again();
    });
    until_parked(1);
    const std::vector<Waiting> all = registry().waiters.snapshot();
    CHECK_EQ(all.size(), 1u);
    CHECK_EQ(all[0].interpreter, who);
    CHECK_EQ(all[0].thread, thread.load());
    CHECK_EQ(std::string(all[0].verb), "recv");
    CHECK_EQ(all[0].targets.size(), 1u);
    CHECK_EQ(all[0].targets[0].object, 42u);
    CHECK_EQ(all[0].targets[0].side, Side::recv);
    CHECK(all[0].timed);
    CHECK(all[0].since_ns >= start && all[0].since_ns <= monotonic_ns());
    {
        std::lock_guard guard(lock);
        CHECK(waiter.settle(Status::ok, 0));
    }
    waiting.join();
    CHECK_EQ(registry().waiters.size(), 0u);
    CHECK(registry().waiters.snapshot().empty());
}

TEST(an_ending_interpreter_wakes_its_calls_and_only_these) {
    host();
    const OwnerId ending = new_id(), other = new_id();
    std::vector<std::thread> threads;
    std::array<std::atomic<Status>, 4> outcomes{};
    std::mutex lock;
    Waiter* stays = nullptr;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
        threads.emplace_back([&, i] {
            Waiter waiter(i == 3 ? other : ending, "recv", 1);
            {
                std::lock_guard guard(lock);
                if (i == 3) stays = &waiter;
            }
            CHECK_EQ(waiter.wait(Deadline::never(), no_spin), Status::ok);
            outcomes[i] = waiter.settlement().status;
            std::lock_guard guard(lock);
        });
    }
    until_parked(4);
    registry().waiters.end(ending);
    for (std::size_t i = 0; i < 3; ++i) {
        threads[i].join();
        CHECK_EQ(outcomes[i].load(), Status::ending);
    }
    CHECK_EQ(registry().waiters.size(), 1u);
    {
        std::lock_guard guard(lock);
        CHECK(!stays->settled());
        stays->settle(Status::ok, 0);
    }
    threads[3].join();
    // Calls that come later do not park.
    Waiter late(ending, "recv", 1);
    CHECK_EQ(late.wait(Deadline::never(), no_spin), Status::ok);
    CHECK_EQ(late.settlement().status, Status::ending);
    registry().waiters.end(ending);  // twice does no harm
}

TEST(many_ended_interpreters_are_told_apart) {
    host();
    std::vector<OwnerId> ids;
    for (int i = 0; i < 1000; ++i) ids.push_back(new_id());
    for (std::size_t i = 0; i < ids.size(); i += 2) registry().waiters.end(ids[ids.size() - 2 - i]);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        Waiter waiter(ids[i], "recv", 1);
        CHECK_EQ(waiter.wait(Deadline::after_ns(0), no_spin), i % 2 ? Status::timeout : Status::ok);
    }
}

TEST(queues_serve_who_came_first) {
    host();
    Waiter a(1, "recv", 1), b(2, "recv", 1), c(1, "recv", 1);
    Entry first{&a, 10}, second{&b, 20}, third{&c, 30};
    EntryQueue queue;
    for (Entry* entry : {&first, &second, &third}) queue.push_back(*entry);
    CHECK_EQ(queue.size(), 3u);
    CHECK(queue.first_other(nullptr) == &first);
    CHECK(queue.first_other(&a) == &second);
    a.settle(Status::timeout, 0);
    CHECK(queue.first_other(nullptr) == &second);
    CHECK(queue.settle_first(Status::ok) == &second);
    CHECK_EQ(b.settlement().index, 20u);
    CHECK_EQ(queue.size(), 1u);  // the decided one was taken out on the way
    CHECK(first.queue == nullptr && second.queue == nullptr && third.queue == &queue);
    CHECK(queue.settle_first(Status::closed) == &third);
    CHECK_EQ(c.settlement().status, Status::closed);
    CHECK(queue.settle_first(Status::ok) == nullptr);
    CHECK(queue.empty());
}

TEST(entries_leave_a_queue_from_anywhere_and_once) {
    host();
    Waiter waiter(1, "recv", 1);
    std::array<Entry, 5> entries;
    for (Entry& entry : entries) entry.waiter = &waiter;
    for (const auto& order :
         {std::array{0, 1, 2, 3, 4}, std::array{4, 3, 2, 1, 0}, std::array{2, 0, 4, 1, 3}}) {
        EntryQueue queue, other;
        for (Entry& entry : entries) queue.push_back(entry);
        std::size_t left = entries.size();
        for (const int index : order) {
            Entry& entry = entries[static_cast<std::size_t>(index)];
            other.remove(entry);  // not its queue: nothing happens
            queue.remove(entry);
            queue.remove(entry);
            CHECK_EQ(queue.size(), --left);
            std::size_t counted_forward = 0;
            for (const Entry* one = queue.front(); one; one = one->next) ++counted_forward;
            CHECK_EQ(counted_forward, left);
        }
        CHECK(queue.empty());
    }
}

TEST(all_calls_of_one_interpreter_can_be_settled) {
    host();
    Waiter a(1, "recv", 1), b(2, "recv", 1), c(1, "recv", 1);
    Entry first{&a, 10}, second{&b, 20}, third{&c, 30};
    EntryQueue queue;
    for (Entry* entry : {&first, &second, &third}) queue.push_back(*entry);
    c.settle(Status::timeout, 0);
    queue.settle_all_of(1, Status::closed);
    CHECK_EQ(queue.size(), 1u);
    CHECK(queue.front() == &second);
    CHECK_EQ(a.settlement().status, Status::closed);
    CHECK(!b.settled());
    CHECK_EQ(c.settlement().status, Status::timeout);
    queue.settle_all(Status::poisoned);
    CHECK_EQ(b.settlement().status, Status::poisoned);
    CHECK(queue.empty());
}

int main(int count, char** arguments) { return check::run(count, arguments); }
