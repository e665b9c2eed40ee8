#include "spin.hpp"

#include <sched.h>

#include "deadline.hpp"

namespace memchannel {

namespace {

// On a cache line of its own: every spin writes it, and what stands beside it is read by every call.
struct alignas(64) Spinners {
    std::atomic<int> count{0};
};
Spinners spinners;

int usable_cores() noexcept {
    static const int cores = [] {
        cpu_set_t set;
        return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }();
    return cores;
}

}  // namespace

namespace detail {

bool begin_spinning() noexcept {
    if (spinners.count.fetch_add(1, std::memory_order_relaxed) < usable_cores()) return true;
    spinners.count.fetch_sub(1, std::memory_order_relaxed);
    return false;
}

void end_spinning() noexcept { spinners.count.fetch_sub(1, std::memory_order_relaxed); }

std::int64_t spin_clock() noexcept { return monotonic_ns(); }

}  // namespace detail

// Stores only what changes, here and in learn(): while both sides stay where they are, their cores can share
// the cache line.
void Spin::touch() noexcept {
    const int cpu = sched_getcpu();
    if (last_cpu_.load(std::memory_order_relaxed) != cpu) last_cpu_.store(cpu, std::memory_order_relaxed);
}

bool Spin::worth_it() noexcept {
    if (last_cpu_.load(std::memory_order_relaxed) == sched_getcpu()) return false;
    if (credit_.load(std::memory_order_relaxed) > 0) return true;
    return waits_.fetch_add(1, std::memory_order_relaxed) % probe_every == probe_every - 1;
}

void Spin::learn(bool hit) noexcept {
    const int credit = credit_.load(std::memory_order_relaxed);
    const int next = hit ? (credit < full_credit ? credit + 1 : full_credit) : (credit > 2 ? credit - 2 : 0);
    if (next != credit) credit_.store(next, std::memory_order_relaxed);
}

}  // namespace memchannel
