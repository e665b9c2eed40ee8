// Rounds of random moves, one for each of some seeds.
//
// MEMCHANNEL_STRESS_ROUNDS=n for more rounds, MEMCHANNEL_STRESS_SEED=n for a round again that failed.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "check.hpp"

namespace fake {

inline std::uint64_t setting(const char* name, std::uint64_t otherwise) {
    const char* const text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Runs a round for each of some seeds, and tells the seed of one that fails.
template <class Round>
void for_each_seed(Round round) {
    const std::uint64_t first = setting("MEMCHANNEL_STRESS_SEED", 1);
    const std::uint64_t rounds =
        std::getenv("MEMCHANNEL_STRESS_SEED") ? 1 : setting("MEMCHANNEL_STRESS_ROUNDS", 60);
    for (std::uint64_t seed = first; seed < first + rounds; ++seed) {
        check::on_failure = [seed] {
            std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(seed));
        };
        round(seed);
    }
}

}  // namespace fake
