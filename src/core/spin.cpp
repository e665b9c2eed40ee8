#include "spin.hpp"

#include <sched.h>

#include <utility>

#include "deadline.hpp"

namespace memchannel {

namespace {

// One for each core, on a cache line of its own: a single count would travel from core to core with each
// message, and take along what stands beside it.
struct alignas(64) Place {
    std::atomic<bool> taken{false};
};
constexpr int most_places = 256;  // more cores than that share them
Place places[most_places];

thread_local bool woke_somebody = false;

}  // namespace

namespace detail {

int begin_spinning() noexcept {
    const int core = sched_getcpu();
    if (core < 0) return nowhere;
    const int place = core % most_places;
    return places[place].taken.exchange(true, std::memory_order_relaxed) ? nowhere : place;
}

void end_spinning(int place) noexcept { places[place].taken.store(false, std::memory_order_relaxed); }

void forget_spinners() noexcept {
    for (Place& place : places) place.taken.store(false, std::memory_order_relaxed);
}

void note_wake() noexcept { woke_somebody = true; }

bool take_wake() noexcept { return std::exchange(woke_somebody, false); }

std::int64_t spin_clock() noexcept { return monotonic_ns(); }

}  // namespace detail

// Stores only what changes, here and in learn(): while both sides stay where they are, their cores can share
// the cache line.
[[gnu::hot]] void Spin::touch() noexcept {
    const int cpu = sched_getcpu();
    if (last_cpu_.load(std::memory_order_relaxed) != cpu) last_cpu_.store(cpu, std::memory_order_relaxed);
}

bool Spin::other_side_is_here() const noexcept {
    return last_cpu_.load(std::memory_order_relaxed) == sched_getcpu();
}

bool Spin::worth_it() noexcept { return !other_side_is_here() && credit_.enough(); }

bool Spin::Credit::enough() noexcept {
    if (left_.load(std::memory_order_relaxed) > 0) return true;
    return waits_.fetch_add(1, std::memory_order_relaxed) % probe_every == probe_every - 1;
}

void Spin::Credit::learn(bool hit) noexcept {
    const int left = left_.load(std::memory_order_relaxed);
    const int next = hit ? (left < full ? left + 1 : full) : (left > 2 ? left - 2 : 0);
    if (next != left) left_.store(next, std::memory_order_relaxed);
}

}  // namespace memchannel
