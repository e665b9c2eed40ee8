#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/mutex.hpp"

using namespace memchannel;

namespace {

void run_all(int count, const std::function<void()>& work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
}

// Until so many threads are about to take a mutex that is held, and most likely have looked in vain.
void await(const std::atomic<int>& coming, int count) {
    while (coming != count) std::this_thread::yield();
    for (int i = 0; i < 1'000; ++i) std::this_thread::yield();
}

}  // namespace

TEST(one_at_a_time_holds_it) {
    constexpr int threads = 8, rounds = 20'000;
    BriefMutex mutex;
    long count = 0;
    run_all(threads, [&] {
        for (int i = 0; i < rounds; ++i) {
            const BriefLock lock(mutex);
            ++count;
        }
    });
    CHECK_EQ(count, long{threads} * rounds);
}

TEST(who_finds_it_taken_does_not_get_it_by_trying) {
    BriefMutex mutex;
    CHECK(mutex.try_lock());
    CHECK(!mutex.try_lock());
    mutex.unlock();
    CHECK(mutex.try_lock());
    mutex.unlock();
}

// Held far longer than anybody looks: all of them sleep, and each is woken.
TEST(all_that_sleep_are_woken) {
    constexpr int sleepers = 16;
    BriefMutex mutex;
    std::atomic<int> coming{0}, through{0};
    for (int round = 0; round < 20; ++round) {
        coming = through = 0;
        mutex.lock();
        std::vector<std::thread> threads;
        for (int i = 0; i < sleepers; ++i) {
            threads.emplace_back([&] {
                ++coming;
                const BriefLock lock(mutex);
                ++through;
            });
        }
        await(coming, sleepers);
        CHECK_EQ(through.load(), 0);
        mutex.unlock();
        for (std::thread& thread : threads) thread.join();
        CHECK_EQ(through.load(), sleepers);
    }
}

// The last holder frees it, as the last user of a channel does, while the one before may still be leaving it.
TEST(whoever_takes_it_next_may_free_it) {
    struct Shared {
        BriefMutex mutex;
        int users = 2;
    };
    for (int round = 0; round < 2'000; ++round) {
        auto* const shared = new Shared;
        run_all(2, [&] {
            shared->mutex.lock();
            const bool last = --shared->users == 0;
            shared->mutex.unlock();
            if (last) delete shared;
        });
    }
}

TEST(errno_stays_as_it_is) {
    BriefMutex mutex;
    std::atomic<int> coming{0};
    mutex.lock();
    std::thread other([&] {
        errno = ENOTTY;
        ++coming;
        const BriefLock lock(mutex);
        CHECK_EQ(errno, ENOTTY);
    });
    await(coming, 1);
    errno = EXDEV;
    mutex.unlock();
    CHECK_EQ(errno, EXDEV);
    other.join();
}

TEST(a_condition_is_awaited_with_it) {
    BriefMutex mutex;
    std::condition_variable_any changed;
    int turn = 0;
    constexpr int turns = 2'000;
    const auto play = [&](int own) {
        for (int i = 0; i < turns; ++i) {
            BriefLock lock(mutex);
            changed.wait(lock, [&] { return turn % 2 == own; });
            ++turn;
            changed.notify_all();
        }
    };
    std::thread other(play, 1);
    play(0);
    other.join();
    CHECK_EQ(turn, 2 * turns);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
