#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <thread>

#include "blocking.hpp"
#include "core/block.hpp"

using namespace fake;

namespace {

std::set<std::size_t> bytes_of(const Extent& extent) {
    std::set<std::size_t> bytes;
    for (std::size_t at = extent.low; at < extent.high; ++at) {
        const std::size_t phase = extent.period ? at % extent.period : 0;
        if (!extent.period || (phase >= extent.phase_low && phase < extent.phase_high)) bytes.insert(at);
    }
    return bytes;
}

bool share_a_byte(const Extent& a, const Extent& b) {
    const std::set<std::size_t> others = bytes_of(b);
    for (const std::size_t byte : bytes_of(a)) {
        if (others.count(byte)) return true;
    }
    return false;
}

Extent random_extent(std::mt19937& random) {
    const auto below = [&](std::size_t end) {
        return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
    };
    Extent extent;
    extent.low = below(40);
    extent.high = extent.low + below(40);
    if (below(3)) {
        extent.period = 1 + below(9);
        extent.phase_low = below(extent.period);
        extent.phase_high = extent.phase_low + 1 + below(extent.period - extent.phase_low);
    }
    return extent;
}

std::string text(const Extent& e) {
    std::ostringstream out;
    out << "[" << e.low << "," << e.high << ") period " << e.period << " phase [" << e.phase_low << ","
        << e.phase_high << ")";
    return out.str();
}

}  // namespace

TEST(extents_that_share_a_byte_overlap) {
    std::mt19937 random(20240817);
    int sharing = 0, apart = 0;
    for (int i = 0; i < 100'000; ++i) {
        const Extent a = random_extent(random), b = random_extent(random);
        const bool overlap = a.may_overlap(b);
        if (overlap != b.may_overlap(a)) FAIL("not symmetric: " + text(a) + " and " + text(b));
        if (share_a_byte(a, b)) {
            ++sharing;
            if (!overlap) FAIL("missed: " + text(a) + " and " + text(b));
        } else if (!overlap) {
            ++apart;
        }
    }
    CHECK(sharing > 10'000 && apart > 10'000);
}

TEST(extents_of_one_period_overlap_exactly_when_they_share_a_byte) {
    // Columns of one array, whole periods long: what blocks along an inner axis are. No false alarms.
    constexpr std::size_t rows = 4;
    for (std::size_t period = 1; period < 10; ++period) {
        const auto column = [&](std::size_t from, std::size_t to) {
            return Extent{from, (rows - 1) * period + to, period, from, to};
        };
        for (std::size_t a = 0; a < period; ++a) {
            for (std::size_t b = a + 1; b <= period; ++b) {
                for (std::size_t c = 0; c < period; ++c) {
                    for (std::size_t d = c + 1; d <= period; ++d) {
                        CHECK_EQ(column(a, b).may_overlap(column(c, d)),
                                 share_a_byte(column(a, b), column(c, d)));
                    }
                }
            }
        }
    }
}

TEST(extents_without_period_overlap_exactly_when_they_share_a_byte) {
    for (std::size_t a = 0; a < 7; ++a)
        for (std::size_t b = a; b < 7; ++b)
            for (std::size_t c = 0; c < 7; ++c)
                for (std::size_t d = c; d < 7; ++d)
                    CHECK_EQ((Extent{a, b}.may_overlap(Extent{c, d})), share_a_byte({a, b}, {c, d}));
}

TEST(blocks_are_zeroed_aligned_and_counted) {
    const BlockCounts before = block_counts();
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{64},
                                   std::size_t{1} << 16, (std::size_t{1} << 20) - 1, std::size_t{1} << 20,
                                   (std::size_t{1} << 20) + 1, (std::size_t{4} << 20) + 5}) {
        Handle<Block> block = Block::make(size);
        CHECK(block);
        CHECK_EQ(block->nbytes(), size);
        CHECK_EQ(reinterpret_cast<std::uintptr_t>(block->data()) % Block::alignment, 0u);
        CHECK_EQ(block->owner_id(), no_owner);
        for (std::size_t i = 0; i < size; ++i) CHECK(block->data()[i] == std::byte{0});
        std::memset(block->data(), 0xff, size);
        CHECK_EQ(block_counts().live, before.live + 1);
        CHECK_EQ(block_counts().bytes, before.bytes + size);
        Handle<Block> other = block;
        block.reset();
        CHECK_EQ(block_counts().live, before.live + 1);
        other.reset();
        CHECK_EQ(block_counts().live, before.live);
        CHECK_EQ(block_counts().bytes, before.bytes);
    }
}

TEST(a_block_that_cannot_be_had_is_not_counted) {
    const BlockCounts before = block_counts();
    CHECK(!Block::make(std::numeric_limits<std::size_t>::max()));
    CHECK(!Block::make(static_cast<std::size_t>(PTRDIFF_MAX)));
    CHECK(!Block::make(static_cast<std::size_t>(PTRDIFF_MAX) / 2));
    CHECK_EQ(block_counts().live, before.live);
    CHECK_EQ(block_counts().bytes, before.bytes);
}

TEST(overlapping_claims_are_refused_until_the_first_is_given_up) {
    Handle<Block> block = Block::make(100);
    CHECK(block->claim({0, 50}));
    CHECK(!block->claim({49, 60}));
    CHECK(!block->claim({0, 50}));
    CHECK(!block->claim({0, 100}));
    CHECK(block->claim({50, 100}));
    block->unclaim({0, 50});
    CHECK(!block->claim({0, 51}));
    CHECK(block->claim({10, 20}));
    CHECK(block->claim({20, 30}));
}

TEST(columns_of_a_block_can_be_claimed_side_by_side) {
    Handle<Block> block = Block::make(80);
    CHECK(block->claim({0, 74, 8, 0, 2}));
    CHECK(block->claim({2, 76, 8, 2, 4}));
    CHECK(!block->claim({3, 77, 8, 3, 5}));
    CHECK(!block->claim({0, 80}));
    block->unclaim({2, 76, 8, 2, 4});
    CHECK(block->claim({3, 77, 8, 3, 5}));
}

TEST(a_writable_part_holds_its_claim_and_its_block) {
    Handle<Block> block = Block::make(100);
    const BlockCounts before = block_counts();
    Handle<WritablePart> part = WritablePart::claim(block, {0, 50});
    CHECK(part);
    CHECK(&part->block() == block.get());
    CHECK(!WritablePart::claim(block, {40, 60}));
    CHECK(!block->claim({0, 1}));  // the refused one gave nothing up
    Handle<WritablePart> again = part;
    part.reset();
    CHECK(!block->claim({0, 1}));
    Block* const raw = block.get();
    block.reset();
    CHECK_EQ(block_counts().live, before.live);
    CHECK(&again->block() == raw);
    again.reset();
    CHECK_EQ(block_counts().live, before.live - 1);
}

TEST(empty_parts_never_conflict) {
    Handle<Block> block = Block::make(10);
    Handle<WritablePart> one = WritablePart::claim(block, {});
    Handle<WritablePart> two = WritablePart::claim(block, {});
    Handle<WritablePart> all = WritablePart::claim(block, {0, 10});
    CHECK(one && two && all);
    one.reset();
    CHECK(!WritablePart::claim(block, {0, 10}));
}

TEST(claims_of_many_threads_are_exclusive) {
    Handle<Block> block = Block::make(64);
    std::vector<std::thread> threads;
    std::atomic<int> got{0};
    for (unsigned seed = 1; seed <= 4; ++seed) {
        threads.emplace_back([&, seed] {
            std::mt19937 random(seed);
            for (int i = 0; i < 3000; ++i) {
                const std::size_t low = random() % 8 * 8, high = low + 8 * (1 + random() % 2);
                Handle<WritablePart> part =
                    WritablePart::claim(block, {low, std::min<std::size_t>(high, 64)});
                if (!part) continue;
                ++got;
                // Plain writes: two holders of one byte are a data race that ThreadSanitizer reports.
                std::memset(block->data() + low, static_cast<int>(seed),
                            std::min<std::size_t>(high, 64) - low);
                for (std::size_t at = low; at < std::min<std::size_t>(high, 64); ++at)
                    CHECK_EQ(std::to_integer<unsigned>(block->data()[at]), seed);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(got > 100);
    CHECK(block->claim({0, 64}));
}

int main(int count, char** arguments) { return check::run(count, arguments); }
