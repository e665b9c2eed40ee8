// The two sides of a channel, and both.
#pragma once

#include <cstdint>

namespace memchannel {

enum class Side : std::uint8_t { none = 0, recv = 1, send = 2, both = 3 };

constexpr Side opposite(Side side) noexcept { return side == Side::recv ? Side::send : Side::recv; }

}  // namespace memchannel
