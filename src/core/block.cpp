#include "block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace memchannel {

namespace {

std::atomic<std::size_t> live_blocks{0};
std::atomic<std::size_t> live_bytes{0};

// From here on a mapping of its own: pages come zeroed, go back at once, and may be huge.
constexpr std::size_t map_from = std::size_t{1} << 20;
constexpr std::size_t huge_page = std::size_t{2} << 20;

}  // namespace

bool Extent::may_overlap(const Extent& other) const noexcept {
    if (std::max(low, other.low) >= std::min(high, other.high)) return false;
    if (period == 0 || period != other.period) return true;
    return phase_low < other.phase_high && other.phase_low < phase_high;
}

Handle<Block> Block::make(std::size_t nbytes) {
    auto block = Handle<Block>::adopt(new Block(nbytes));
    const std::size_t size = std::max<std::size_t>(nbytes, 1);
    if (size > static_cast<std::size_t>(PTRDIFF_MAX) - huge_page) return {};
    if (size >= map_from) {
        void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return {};
        block->mapped_ = true;
        block->data_ = static_cast<std::byte*>(memory);
        if (size >= 2 * huge_page) madvise(memory, size, MADV_HUGEPAGE);  // advice: refusal does no harm
    } else {
        const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
        block->data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
        if (!block->data_) return {};
        std::memset(block->data_, 0, rounded);
    }
    live_blocks.fetch_add(1, std::memory_order_relaxed);
    live_bytes.fetch_add(nbytes, std::memory_order_relaxed);
    return block;
}

Block::~Block() {
    if (!data_) return;
    if (mapped_) {
        munmap(data_, std::max<std::size_t>(nbytes_, 1));
    } else {
        std::free(data_);
    }
    live_blocks.fetch_sub(1, std::memory_order_relaxed);
    live_bytes.fetch_sub(nbytes_, std::memory_order_relaxed);
}

bool Block::claim(const Extent& extent) {
    std::lock_guard lock(mutex_);
    for (const Extent& held : claims_) {
        if (held.may_overlap(extent)) return false;
    }
    claims_.push_back(extent);
    return true;
}

void Block::unclaim(const Extent& extent) noexcept {
    std::lock_guard lock(mutex_);
    const auto same = [&](const Extent& held) {
        return held.low == extent.low && held.high == extent.high && held.phase_low == extent.phase_low &&
               held.phase_high == extent.phase_high && held.period == extent.period;
    };
    const auto found = std::find_if(claims_.begin(), claims_.end(), same);
    if (found != claims_.end()) claims_.erase(found);
}

Handle<WritablePart> WritablePart::claim(Handle<Block> block, const Extent& extent) {
    auto part = Handle<WritablePart>::adopt(new WritablePart(std::move(block), extent));
    part->claimed_ = part->block_->claim(extent);
    return part->claimed_ ? part : Handle<WritablePart>();
}

void WritablePart::ended() noexcept {
    if (claimed_) block_->unclaim(extent_);
    delete this;
}

BlockCounts block_counts() noexcept {
    return {live_blocks.load(std::memory_order_relaxed), live_bytes.load(std::memory_order_relaxed)};
}

}  // namespace memchannel
