// Threads of interpreters that come and go, at a lock, a semaphore, a condition and a barrier. A number that
// only the lock guards tells ThreadSanitizer whether it does.
#include <random>

#include "core/barrier.hpp"
#include "core/condition.hpp"
#include "core/semaphore.hpp"
#include "primitives.hpp"
#include "stress.hpp"

using namespace fake;

namespace {

constexpr int threads_each = 2;

Deadline soon(std::mt19937_64& random) {
    return Deadline::after_ns(static_cast<std::int64_t>(random() % 200'000));
}

struct Shared {
    Handle<Lock> lock = make<Lock>(false);
    Handle<Semaphore> places = make<Semaphore>(2u, true);
    Handle<Condition> changed = make<Condition>(lock);
    std::atomic<int> inside{0};
    std::atomic<int> told{0};  // that a holder ended
    std::atomic<int> left{0};  // with the lock
    long turns = 0;            // the lock's
    std::atomic<long> counted{0};
};

// As a thread whose interpreter ends with it, sometimes in the middle of a turn.
void use_lock(Shared& shared, Interpreter& mine, std::uint64_t seed, bool leaves) {
    std::mt19937_64 random(seed);
    const Caller who{*mine.owner, this_thread()};
    const int rounds = 40 + static_cast<int>(random() % 40);
    for (int i = 0; i < rounds; ++i) {
        const Deadline limit = random() % 3 ? Deadline::never() : soon(random);
        const Status status =
            random() % 4 ? acquire(*shared.lock, who, limit) : shared.lock->try_acquire(who);
        if (status == Status::abandoned) ++shared.told;
        if (status == Status::ending) return;
        if (status != Status::ok) continue;
        ++shared.turns;
        ++shared.counted;
        if (leaves && i > rounds / 2) {
            ++shared.left;
            return;
        }
        if (random() % 8 == 0) shared.changed->notify(1 + random() % 2);
        CHECK_EQ(shared.lock->release(who), Status::ok);
    }
}

void use_condition(Shared& shared, Interpreter& mine, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const Caller who{*mine.owner, this_thread()};
    for (int i = 0; i < 20; ++i) {
        Status status = acquire(*shared.lock, who);
        if (status == Status::abandoned) ++shared.told;
        if (status != Status::ok) continue;
        ++shared.turns;
        ++shared.counted;
        Waiter waiter(mine.id, "Condition.wait", shared.changed->id());
        Entry entry;
        entry.waiter = &waiter;
        shared.changed->enlist(entry);
        std::size_t depth = 0;
        CHECK_EQ(shared.lock->release_all(who, depth), Status::ok);
        static_cast<void>(waiter.wait(soon(random), &shared.changed->spin()));
        if (random() % 2) static_cast<void>(shared.changed->finish(entry));
        else shared.changed->withdraw(entry);
        while ((status = acquire(*shared.lock, who)) == Status::abandoned) ++shared.told;
        CHECK_EQ(status, Status::ok);
        shared.lock->restore(depth);
        CHECK_EQ(shared.lock->release(who), Status::ok);
    }
}

void use_places(Shared& shared, Interpreter& mine, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const Caller who{*mine.owner, this_thread()};
    for (int i = 0; i < 60; ++i) {
        if (acquire(*shared.places, who, random() % 2 ? Deadline::never() : soon(random)) != Status::ok)
            continue;
        CHECK(++shared.inside <= 2);
        --shared.inside;
        CHECK_EQ(shared.places->release(1), Status::ok);
    }
}

}  // namespace

TEST(locks_amid_interpreters_that_end) {
    for_each_seed([](std::uint64_t seed) {
        Shared shared;
        Interpreter& stays = host().create();
        std::vector<std::jthread> threads;
        for (std::uint64_t i = 0; i < threads_each; ++i) {
            threads.emplace_back([&, i] { use_lock(shared, stays, seed * 100 + i, false); });
            threads.emplace_back([&, i] { use_condition(shared, stays, seed * 100 + 10 + i); });
            threads.emplace_back([&, i] { use_places(shared, stays, seed * 100 + 20 + i); });
            Interpreter& goes = host().create();
            threads.emplace_back([&, i] {
                use_lock(shared, goes, seed * 100 + 30 + i, true);
                host().unreference(goes);
            });
        }
        threads.clear();
        const Status last = shared.lock->try_acquire({*stays.owner, {1, 1}});
        if (last == Status::abandoned) ++shared.told;
        else CHECK_EQ(last, Status::ok);
        // Two may leave before anybody is told of the first.
        CHECK(shared.told <= shared.left);
        CHECK_EQ(shared.told > 0, shared.left > 0);
        CHECK_EQ(shared.turns, shared.counted.load());
        CHECK_EQ(shared.places->value(), 2u);
        CHECK_EQ(shared.changed->waiting(), 0u);
        CHECK_EQ(registry().waiters.size(), 0u);
    });
}

TEST(barriers_that_break_and_are_mended) {
    for_each_seed([](std::uint64_t seed) {
        const auto barrier = make<Barrier>(3u, seed % 2 == 0);
        Interpreter& here = host().create();
        std::atomic<long> passed{0};
        std::atomic<bool> over{false};
        std::vector<std::jthread> threads;
        for (std::uint64_t i = 0; i < 3; ++i) {
            threads.emplace_back([&, i] {
                std::mt19937_64 random(seed * 10 + i);
                for (int round = 0; round < 40; ++round) {
                    Waiter waiter(here.id, "Barrier.wait", barrier->id());
                    Entry entry;
                    entry.waiter = &waiter;
                    const Barrier::Arrival arrival = barrier->arrive(entry, here.id);
                    Status status = arrival.status;
                    if (status == Status::ok && arrival.acts &&
                        !barrier->end_action(arrival.meeting, random() % 8 != 0))
                        status = Status::broken;
                    if (status == Status::parked) {
                        const bool patient = random() % 8 != 0;
                        static_cast<void>(waiter.wait(patient ? in_ms(20) : soon(random), &barrier->spin()));
                        status = barrier->finish(entry);
                    }
                    if (status == Status::ok) ++passed;
                }
                over = true;  // the others are no longer enough: whoever waits ends at its limit
            });
        }
        threads.emplace_back([&] {
            while (!over) {
                if (barrier->broken()) barrier->reset();
                std::this_thread::yield();
            }
        });
        threads.clear();
        CHECK_EQ(barrier->waiting(), 0u);
        CHECK(passed <= 3 * 40);
        CHECK_EQ(registry().waiters.size(), 0u);
    });
}

int main(int count, char** arguments) { return check::run(count, arguments); }
