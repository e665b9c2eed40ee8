// Senders, and subscribers that come and go: each gets all that is sent while it listens, in order, once.
#include <map>
#include <random>

#include "flavours.hpp"
#include "stress.hpp"

using namespace fake;

namespace {

constexpr std::uint64_t each_sends = 60;
constexpr std::uint64_t senders = 2;

Deadline soon(std::mt19937_64& random) {
    return Deadline::after_ns(static_cast<std::int64_t>(random() % 200'000));
}

void send_all(Channel& channel, std::uint64_t index, std::uint64_t seed, Tally& tally) {
    std::mt19937_64 random(seed);
    const OwnerId who = new_id();
    for (std::uint64_t number = 0; number < each_sends; ++number) {
        Message message = numbered(index << 32 | number, counted(tally));
        Status status = Status::full;
        while (status == Status::full || status == Status::timeout) {
            status =
                random() % 2 ? channel.try_send(who, message) : send(channel, who, message, soon(random));
        }
        CHECK_EQ(status, Status::ok);
    }
}

// What one subscription gives: of each sender one number after the other, wherever it begins.
class Listener {
   public:
    Listener(Handle<Channel> subscription, OwnerId who) : end_(std::move(subscription)), who_(who) {}

    // Receives a little. False: the channel has ended.
    bool listen(std::mt19937_64& random) {
        if (random() % 2) {
            Message message;
            const Status status = recv(*end_, who_, message, soon(random));
            if (status == Status::ok) note(message);
            else CHECK(status == Status::timeout || status == Status::ended);
            return status != Status::ended;
        }
        std::vector<Message> messages;
        const Status status = end_->try_recv_many(who_, 1 + random() % 4, messages);
        if (random() % 4 == 0) end_->put_back(messages);
        for (const Message& message : messages)
            if (message) note(message);
        return status != Status::ended;
    }

    void check_heard_the_last() const {
        for (const auto& [sender, next] : next_) CHECK_EQ(next, each_sends);
    }

   private:
    void note(const Message& message) {
        const std::uint64_t number = number_of(message) & 0xffff'ffff;
        const auto [place, first] = next_.try_emplace(number_of(message) >> 32, number);
        CHECK_EQ(place->second, number);
        ++place->second;
    }

    Handle<Channel> end_;
    const OwnerId who_;
    std::map<std::uint64_t, std::uint64_t> next_;  // by sender
};

// Listens for a while, goes away and comes again, until the channel ends.
void subscribe_again_and_again(Channel& channel, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const OwnerId who = new_id();
    for (bool going_on = true; going_on;) {
        Handle<Channel> subscription;
        CHECK_EQ(channel.subscribe(who, subscription), Status::ok);
        Listener listener(std::move(subscription), who);
        const bool to_the_end = random() % 4 == 0;
        for (std::uint64_t left = random() % 30; going_on && (to_the_end || left > 0); left -= !to_the_end) {
            going_on = listener.listen(random);
        }
        if (!going_on) listener.check_heard_the_last();
    }
}

void round_of_broadcasts(std::uint64_t seed) {
    Tally tally;
    {
        auto channel = make_channel(flavours[1 + seed % (std::size(flavours) - 1)]);
        const OwnerId keeper = new_id();
        channel->associate(Side::send, keeper);
        Handle<Channel> first;  // makes it a broadcast channel before anybody sends
        CHECK_EQ(channel->subscribe(keeper, first), Status::ok);
        first.reset();
        std::vector<std::thread> threads, listeners;
        for (std::uint64_t i = 0; i < 3; ++i) {
            listeners.emplace_back([&, i] { subscribe_again_and_again(*channel, seed * 10 + i); });
        }
        for (std::uint64_t i = 0; i < senders; ++i) {
            threads.emplace_back([&, i] { send_all(*channel, i, seed * 10 + 5 + i, tally); });
        }
        for (std::thread& thread : threads) thread.join();
        channel->close(Side::send, keeper);
        for (const OwnerId who : channel->statistics().senders) channel->close(Side::send, who);
        for (std::thread& thread : listeners) thread.join();
        const ChannelStatistics now = channel->statistics();
        CHECK_EQ(now.sent, senders * each_sends);
        CHECK(now.subscribers.empty());
        CHECK_EQ(now.waiting_receivers + now.waiting_senders, 0u);
        CHECK_EQ(registry().waiters.size(), 0u);
    }
    CHECK_EQ(tally.made.load(), tally.destroyed.load());
}

}  // namespace

TEST(subscribers_that_come_and_go_hear_all_in_order) { for_each_seed(round_of_broadcasts); }

int main(int count, char** arguments) { return check::run(count, arguments); }
