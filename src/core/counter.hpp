// A number that interpreters change without a lock.
#pragma once

#include <atomic>

#include "primitive.hpp"

namespace memchannel {

class Counter final : public Primitive {
   public:
    explicit Counter(std::int64_t value) : Primitive(PrimitiveKind::counter), value_(value) {}

    std::int64_t value() const noexcept { return value_.load(); }
    // False: the sum does not fit, and nothing was added.
    bool add(std::int64_t number, std::int64_t& sum) noexcept {
        std::int64_t seen = value_.load(std::memory_order_relaxed);
        do {
            if (__builtin_add_overflow(seen, number, &sum)) return false;
        } while (!value_.compare_exchange_weak(seen, sum));
        return true;
    }
    bool compare_exchange(std::int64_t expected, std::int64_t replacement) noexcept {
        return value_.compare_exchange_strong(expected, replacement);
    }

    void end_interpreter(OwnerId) noexcept override {}

   private:
    std::atomic<std::int64_t> value_;
};

}  // namespace memchannel
