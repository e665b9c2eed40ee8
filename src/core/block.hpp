// Memory that belongs to no interpreter: owned by the core, by count, so that it outlives every interpreter
// and giving it back never switches.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "lease.hpp"

namespace memchannel {

// Bytes [low, high) of a block; with a period, only those whose offset in the block, modulo the period, lies
// in [phase_low, phase_high). The latter is what a slice along an inner axis of a C-ordered array touches.
struct Extent {
    std::size_t low = 0;
    std::size_t high = 0;
    std::size_t period = 0;  // 0: all of [low, high)
    std::size_t phase_low = 0;
    std::size_t phase_high = 0;
    // Never false for two extents that share a byte; may be true for some that do not (different periods).
    bool may_overlap(const Extent& other) const noexcept;
};

class Block final : public Lease {
   public:
    static constexpr std::size_t alignment = 64;

    // Returns nullptr when the memory cannot be had. Contents are zero.
    static Handle<Block> make(std::size_t nbytes);

    std::byte* data() const noexcept { return data_; }
    std::size_t nbytes() const noexcept override { return nbytes_; }
    OwnerId owner_id() const noexcept override { return no_owner; }

    // Exclusive use of an extent for writing; false: somebody holds an overlapping one.
    bool claim(const Extent& extent);
    void unclaim(const Extent& extent) noexcept;

   private:
    explicit Block(std::size_t nbytes) noexcept : nbytes_(nbytes) {}
    ~Block() override;
    void ended() noexcept override { delete this; }

    std::byte* data_ = nullptr;
    const std::size_t nbytes_;
    bool mapped_ = false;
    std::mutex mutex_;
    std::vector<Extent> claims_;  // mutex_
};

// A writable claim as a lease: whoever holds it writes, and nobody else can claim the extent until it ends.
class WritablePart final : public Lease {
   public:
    static Handle<WritablePart> claim(Handle<Block> block, const Extent& extent);
    OwnerId owner_id() const noexcept override { return no_owner; }
    bool exclusive() const noexcept override { return true; }
    Block& block() const noexcept { return *block_; }

   private:
    WritablePart(Handle<Block> block, const Extent& extent) noexcept
        : block_(std::move(block)), extent_(extent) {}
    void ended() noexcept override;

    const Handle<Block> block_;
    const Extent extent_;
    bool claimed_ = false;  // what was refused is not given up
};

struct BlockCounts {
    std::size_t live = 0;
    std::size_t bytes = 0;
};
BlockCounts block_counts() noexcept;

}  // namespace memchannel
