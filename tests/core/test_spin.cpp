#include <sched.h>

#include "check.hpp"
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

int usable_cores() {
    cpu_set_t set;
    CHECK_EQ(sched_getaffinity(0, sizeof set, &set), 0);
    return CPU_COUNT(&set);
}

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

TEST(nobody_spins_for_a_side_that_ran_on_this_core) {
    // The thread may move between touch and look: pin it.
    cpu_set_t before, one;
    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    Spin spin;
    spin.touch();
    CHECK_EQ(looks(spin), 1);
    CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(no_more_spinners_than_cores) {
    Spin spin;
    looks(spin);  // the number of cores is looked up once
    const int cores = usable_cores();
    for (int i = 0; i < cores; ++i) CHECK(detail::begin_spinning());
    CHECK(!detail::begin_spinning());
    CHECK_EQ(looks(spin), 1);
    detail::end_spinning();
    CHECK(looks(spin) > 1);
    for (int i = 1; i < cores; ++i) detail::end_spinning();
}

int main(int count, char** arguments) { return check::run(count, arguments); }
