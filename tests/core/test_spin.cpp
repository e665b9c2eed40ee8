#include <sched.h>

#include <vector>

#include "check.hpp"
#include "core/deadline.hpp"
#include "core/spin.hpp"

using namespace memchannel;

namespace {

// How often a call that never becomes ready was looked at; once: it did not spin.
int looks(Spin& spin) {
    int count = 0;
    CHECK(!spin.until([&] {
        ++count;
        return false;
    }));
    return count;
}

// Keeps the thread on the core where it is.
class Pinned {
   public:
    Pinned() {
        CHECK_EQ(sched_getaffinity(0, sizeof before_, &before_), 0);
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
        CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
    ~Pinned() { CHECK_EQ(sched_setaffinity(0, sizeof before_, &before_), 0); }

   private:
    cpu_set_t before_;
};

}  // namespace

TEST(what_is_ready_is_seen_at_the_first_look) {
    Spin spin;
    int count = 0;
    CHECK(spin.until([&] { return ++count == 1; }));
    CHECK_EQ(count, 1);
}

TEST(a_fresh_spin_looks_again) {
    Spin spin;
    int count = 0;
    CHECK(spin.until([&] { return ++count == 5; }));
    CHECK_EQ(count, 5);
}

TEST(misses_use_up_the_credit_and_then_every_64th_wait_probes) {
    Spin spin;
    for (int i = 0; i < 4; ++i) CHECK(looks(spin) > 1);  // credit 8, two a miss
    int spun = 0;
    for (int i = 0; i < 640; ++i) spun += looks(spin) > 1;
    CHECK_EQ(spun, 10);
}

TEST(a_hit_of_a_probe_brings_the_spinning_back) {
    Spin spin;
    for (int i = 0; i < 4; ++i) looks(spin);
    int waits = 0;
    for (bool hit = false; !hit; ++waits) {
        CHECK(waits < 64);
        int count = 0;
        hit = spin.until([&] { return ++count == 3; });
    }
    CHECK(looks(spin) > 1);  // the credit of that hit
    CHECK_EQ(looks(spin), 1);
}

TEST(a_glance_is_short_and_learns_by_itself) {
    Spin spin;
    const auto glances = [&] {
        int count = 0;
        CHECK(!spin.glance([&] {
            ++count;
            return false;
        }));
        return count;
    };
    for (int i = 0; i < 4; ++i) {
        const int count = glances();
        CHECK(count > 1 && count < 1000);
    }
    int taken = 0;
    for (int i = 0; i < 640; ++i) taken += glances() > 0;
    CHECK_EQ(taken, 10);
    CHECK(looks(spin) > 1);  // the longer look has a credit of its own
    int count = 0;
    while (!spin.glance([&] { return ++count == 3; })) count = 0;
    CHECK(glances() > 0);  // the credit of that hit
    CHECK_EQ(glances(), 0);
}

TEST(nobody_glances_for_a_side_that_ran_on_this_core) {
    const Pinned pinned;
    Spin spin;
    spin.touch();
    CHECK(!spin.glance([] { return true; }));
}

TEST(who_woke_somebody_looks_as_long_as_that_takes) {
    Spin spin;
    detail::note_wake();
    const std::int64_t begin = monotonic_ns();
    looks(spin);
    CHECK(monotonic_ns() - begin >= Spin::longest_after_wake_ns);
    CHECK(!detail::take_wake());  // once
}

TEST(nobody_spins_for_a_side_that_ran_on_this_core) {
    const Pinned pinned;  // the thread may move between touch and look
    Spin spin;
    spin.touch();
    CHECK_EQ(looks(spin), 1);
}

TEST(one_spins_on_each_core) {
    const Pinned pinned;
    Spin spin;
    const int place = detail::begin_spinning();
    CHECK(place != detail::nowhere);
    CHECK_EQ(detail::begin_spinning(), detail::nowhere);
    CHECK_EQ(looks(spin), 1);
    detail::end_spinning(place);
    CHECK(looks(spin) > 1);
}

TEST(who_spins_on_another_core_is_in_nobodys_way) {
    cpu_set_t all;
    CHECK_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    std::vector<int> taken;
    for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
        if (!CPU_ISSET(core, &all)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
        taken.push_back(detail::begin_spinning());
        CHECK(taken.back() != detail::nowhere || taken.size() > 256);  // more cores than places
    }
    CHECK_EQ(sched_setaffinity(0, sizeof all, &all), 0);
    for (const int place : taken) {
        if (place != detail::nowhere) detail::end_spinning(place);
    }
}

int main(int count, char** arguments) { return check::run(count, arguments); }
