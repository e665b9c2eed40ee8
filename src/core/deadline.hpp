// An optional point on the monotonic clock. The only place that reads a clock.
#pragma once

#include <time.h>

#include <cstdint>
#include <limits>

namespace memchannel {

inline std::int64_t monotonic_ns() noexcept {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

class Deadline {
   public:
    static constexpr Deadline never() noexcept { return Deadline(); }

    static Deadline after_ns(std::int64_t ns) noexcept {
        const std::int64_t now = monotonic_ns();
        return Deadline(ns > forever - now ? forever : now + ns);
    }

    bool is_never() const noexcept { return at_ == forever; }
    bool passed() const noexcept { return !is_never() && monotonic_ns() >= at_; }
    Deadline sooner(Deadline other) const noexcept { return other.at_ < at_ ? other : *this; }
    bool operator==(const Deadline&) const noexcept = default;

    timespec as_timespec() const noexcept {
        return {static_cast<time_t>(at_ / 1'000'000'000), static_cast<long>(at_ % 1'000'000'000)};
    }

   private:
    static constexpr std::int64_t forever = std::numeric_limits<std::int64_t>::max();
    constexpr Deadline() noexcept = default;
    constexpr explicit Deadline(std::int64_t at) noexcept : at_(at) {}
    std::int64_t at_ = forever;
};

}  // namespace memchannel
