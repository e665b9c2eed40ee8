// The same test for every kind of channel: rendezvous, one place, some places, unlimited.
#pragma once

#include "blocking.hpp"

namespace fake {

inline constexpr std::size_t some = 3;
inline constexpr std::size_t flavours[] = {0, 1, some, unlimited};

inline std::string flavour_name(std::size_t capacity) {
    return capacity == unlimited ? "unlimited" : std::to_string(capacity);
}

struct FlavourRegistration {
    FlavourRegistration(const std::string& name, void (*body)(std::size_t)) {
        for (const std::size_t capacity : flavours) {
            check::tests().push_back({name + "/" + flavour_name(capacity), [=] { body(capacity); }});
        }
    }
};

// How many messages fit without a receiver; of an unlimited channel: many.
inline std::size_t places(std::size_t capacity) { return capacity == unlimited ? 1000 : capacity; }

}  // namespace fake

#define FLAVOUR_TEST(name)                                                      \
    static void test_##name(std::size_t);                                       \
    static const fake::FlavourRegistration register_##name(#name, test_##name); \
    static void test_##name([[maybe_unused]] std::size_t capacity)
