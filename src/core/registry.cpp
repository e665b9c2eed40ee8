#include "registry.hpp"

#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

#include <mutex>

#include "deadline.hpp"

namespace memchannel {

namespace {

std::atomic<Registry*> current{nullptr};
Host* current_host = nullptr;

std::uint64_t random_token() noexcept {
    std::uint64_t token = 0;
    if (getrandom(&token, sizeof token, 0) != sizeof token) {
        token = static_cast<std::uint64_t>(monotonic_ns()) << 20 ^ static_cast<std::uint64_t>(getpid());
    }
    return token;
}

// The only lock that is taken for a fork: it guards a list, for a few instructions at a time.
void before_fork() { current.load(std::memory_order_acquire)->descriptors.lock(); }
void after_fork() { current.load(std::memory_order_acquire)->descriptors.unlock(); }

// In the child no other thread exists, and no lock of the parent may be touched: they start anew. What the
// parent records is not recorded there.
void renew_in_child() {
    Registry* const parent = current.load(std::memory_order_relaxed);
    parent->descriptors.close_all_in_child();
    detail::forget_spinners();
    detail::recording.store(false, std::memory_order_relaxed);
    current.store(new Registry(*current_host, parent->generation + 1), std::memory_order_relaxed);
}

}  // namespace

namespace detail {
std::atomic<bool> recording{false};
}  // namespace detail

Registry::Registry(Host& host, unsigned fork_generation)
    : owners(host), process_token(random_token()), generation(fork_generation) {}

void start_registry(Host& host) {
    static std::once_flag once;
    std::call_once(once, [&] {
        current_host = &host;
        current.store(new Registry(host, 1), std::memory_order_release);
        pthread_atfork(before_fork, after_fork, renew_in_child);
    });
}

bool registry_started() noexcept { return current.load(std::memory_order_acquire) != nullptr; }

Registry& registry() noexcept { return *current.load(std::memory_order_acquire); }

}  // namespace memchannel
