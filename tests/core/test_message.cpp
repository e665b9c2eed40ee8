#include <array>
#include <limits>

#include "blocking.hpp"

using namespace fake;

namespace {

// Counts what it is told while it travels.
class Passenger final : public Transferable {
   public:
    explicit Passenger(std::atomic<int>& alive) noexcept : alive_(alive) { ++alive_; }
    void packed(Side side) noexcept override {
        ++(side == Side::recv ? recv : side == Side::send ? send : both);
    }
    void unpacked(Side side) noexcept override {
        --(side == Side::recv ? recv : side == Side::send ? send : both);
    }
    int recv = 0, send = 0, both = 0;

   private:
    ~Passenger() override { --alive_; }
    std::atomic<int>& alive_;
};

}  // namespace

TEST(an_empty_message_is_false_and_a_made_one_true) {
    Message message;
    CHECK(!message);
    message = Message::make(7, 0, 0);
    CHECK(message);
    CHECK_EQ(int{message.kind()}, 7);
    CHECK_EQ(message.header().size(), 0u);
    CHECK_EQ(message.leases().size(), 0u);
    CHECK_EQ(message.riders().size(), 0u);
    message.reset();
    CHECK(!message);
}

// Whoever waits for a rider to be told may count on the leases having gone home.
TEST(leases_end_before_riders) {
    class Witness final : public Transferable {
       public:
        explicit Witness(Tally& tally) noexcept : tally_(tally) {}
        void packed(Side) noexcept override {}
        void unpacked(Side) noexcept override { seen = tally_.destroyed.load(); }
        long seen = -1;

       private:
        Tally& tally_;
    };
    host();
    Tally tally;
    const auto witness = Handle<Witness>::adopt(new Witness(tally));
    Message message = Message::make(1, 0, 2);
    for (Lease*& lease : message.leases()) lease = counted(tally).release();
    message.add_rider(Handle<Witness>(witness), Side::recv);
    message.reset();
    CHECK_EQ(witness->seen, 2);
}

TEST(header_and_leases_do_not_overlap) {
    host();
    for (const std::size_t leases : {0u, 1u, 3u, 100u}) {
        for (const std::size_t size : {0u, 1u, 7u, 8u, 4096u}) {
            Tally tally;
            Message message = Message::make(1, size, leases);
            for (Lease*& lease : message.leases()) {
                CHECK(lease == nullptr);
                lease = counted(tally).release();
            }
            for (std::size_t i = 0; i < size; ++i) message.header()[i] = static_cast<std::byte>(i * 31);
            for (Lease* lease : message.leases()) CHECK_EQ(lease->holders(), 1);
            for (std::size_t i = 0; i < size; ++i)
                CHECK(message.header()[i] == static_cast<std::byte>(i * 31));
            message.reset();
            CHECK_EQ(tally.made.load(), static_cast<long>(leases));
            CHECK_EQ(tally.destroyed.load(), static_cast<long>(leases));
        }
    }
}

TEST(sizes_that_do_not_fit_are_refused) {
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    const std::array<std::pair<std::size_t, std::size_t>, 4> sizes{
        {{most + 1, 0},
         {0, most / sizeof(Lease*) + 1},
         {std::numeric_limits<std::size_t>::max(), 1},
         {0, std::numeric_limits<std::size_t>::max()}}};
    for (const auto& [header, leases] : sizes) {
        bool refused = false;
        try {
            Message::make(1, header, leases);
        } catch (const std::bad_alloc&) {
            refused = true;
        }
        CHECK(refused);
    }
}

TEST(a_moved_message_leaves_nothing_behind) {
    host();
    Tally tally;
    Message first = numbered(5, counted(tally));
    Message second = std::move(first);
    CHECK(!first);
    CHECK_EQ(number_of(second), 5u);
    Message third;
    third = std::move(second);
    CHECK(!second);
    CHECK_EQ(number_of(third), 5u);
    third.reset();
    CHECK_EQ(tally.destroyed.load(), 1);
}

TEST(a_taken_lease_outlives_its_message) {
    host();
    Tally tally;
    Message message = numbered(1, counted(tally));
    LeaseRef lease = message.take_lease(0);
    CHECK(lease);
    CHECK(!message.take_lease(0));
    message.reset();
    CHECK_EQ(tally.destroyed.load(), 0);
    lease.reset();
    CHECK_EQ(tally.destroyed.load(), 1);
}

TEST(a_clone_has_the_content_and_counts_of_its_own) {
    host();
    Tally tally;
    std::atomic<int> alive{0};
    auto passenger = Handle<Passenger>::adopt(new Passenger(alive));
    Message message = Message::make(9, sizeof(std::uint64_t), 3);
    const std::uint64_t number = 77;
    std::memcpy(message.header().data(), &number, sizeof number);
    message.leases()[0] = counted(tally).release();
    message.leases()[2] = counted(tally).release();  // the one between stays empty
    message.add_rider(Handle<Passenger>(passenger), Side::recv);
    {
        Message copy = message.clone();
        CHECK_EQ(int{copy.kind()}, 9);
        CHECK_EQ(number_of(copy), 77u);
        CHECK(copy.leases()[0] == message.leases()[0] && copy.leases()[1] == nullptr &&
              copy.leases()[2] == message.leases()[2]);
        CHECK_EQ(copy.leases()[0]->holders(), 2);
        CHECK_EQ(copy.riders().size(), 1u);
        CHECK(&copy.riders()[0].object() == passenger.get() && copy.riders()[0].side() == Side::recv);
        CHECK_EQ(passenger->recv, 2);
        message.reset();
        CHECK_EQ(tally.destroyed.load(), 0);
        CHECK_EQ(passenger->recv, 1);
    }
    CHECK_EQ(tally.destroyed.load(), 2);
    CHECK_EQ(passenger->recv, 0);
    passenger.reset();
    CHECK_EQ(alive.load(), 0);
}

TEST(riders_are_packed_as_long_as_the_message_lives) {
    std::atomic<int> alive{0};
    auto passenger = Handle<Passenger>::adopt(new Passenger(alive));
    {
        Message message = Message::make(1, 0, 0);
        for (int i = 0; i < 20; ++i) {  // the list of riders grows, which moves them
            message.add_rider(Handle<Passenger>(passenger), Side::recv);
            message.add_rider(Handle<Passenger>(passenger), Side::send);
            message.add_rider(Handle<Passenger>(passenger), Side::both);
            CHECK(passenger->recv == i + 1 && passenger->send == i + 1 && passenger->both == i + 1);
        }
        CHECK_EQ(message.riders().size(), 60u);
        Message moved = std::move(message);
        CHECK_EQ(passenger->recv, 20);
        CHECK_EQ(passenger->references(), 61);
    }
    CHECK(passenger->recv == 0 && passenger->send == 0 && passenger->both == 0);
    CHECK_EQ(passenger->references(), 1);
    passenger.reset();
    CHECK_EQ(alive.load(), 0);
}

TEST(a_queue_is_first_in_first_out) {
    MessageQueue queue;
    std::uint64_t pushed = 0, popped = 0;
    // Lengths go up and down through empty, so that head and tail meet again and again.
    for (const int step : {1, -1, 3, -2, 5, -6, 100, -50, 50, -100}) {
        for (int i = 0; i < step; ++i) queue.push(numbered(pushed++));
        for (int i = 0; i > step; --i) CHECK_EQ(number_of(queue.pop()), popped++);
        CHECK_EQ(queue.size(), pushed - popped);
        CHECK_EQ(queue.empty(), pushed == popped);
    }
    CHECK(queue.empty());
}

TEST(queues_swap_and_drop_what_they_hold) {
    host();
    Tally tally;
    {
        MessageQueue one, two;
        for (std::uint64_t i = 0; i < 5; ++i) one.push(numbered(i, counted(tally)));
        one.swap(two);
        CHECK(one.empty());
        CHECK_EQ(two.size(), 5u);
        MessageQueue three(std::move(two));
        CHECK(two.empty());
        CHECK_EQ(number_of(three.pop()), 0u);
        CHECK_EQ(tally.destroyed.load(), 1);
        three.push(numbered(9, counted(tally)));
        std::size_t riders = 0;
        three.for_each_rider([&](const Rider&) { ++riders; });
        CHECK_EQ(riders, 0u);
    }
    CHECK_EQ(tally.destroyed.load(), 6);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
