// Threads that do whatever comes into their heads to a few channels, and what must hold nevertheless.
#include <random>
#include <set>

#include "flavours.hpp"
#include "stress.hpp"

using namespace fake;

namespace {

struct Move {
    std::size_t channel;
    std::uint64_t number;
};

// One thread, its messages and what it did. Numbers are its own index and a running one.
class Actor {
   public:
    Actor(std::uint64_t seed, std::uint64_t index, OwnerId who, const std::vector<Handle<Channel>>& channels,
          bool violent, Tally& tally)
        : random_(seed * 1000 + index),
          index_(index),
          who_(who),
          channels_(channels),
          violent_(violent),
          tally_(tally) {}

    void run(int steps) {
        for (int step = 0; step < steps; ++step) act();
    }

    const std::vector<Move>& sent() const noexcept { return sent_; }
    const std::vector<Move>& perhaps_sent() const noexcept { return perhaps_sent_; }
    const std::vector<Move>& received() const noexcept { return received_; }

   private:
    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
    Deadline soon() { return Deadline::after_ns(static_cast<std::int64_t>(below(300'000))); }
    Message fresh() { return numbered(index_ << 32 | next_++, counted(tally_)); }

    void act() {
        const std::size_t at = below(channels_.size());
        switch (below(violent_ ? 1000 : 900) / 150) {
            case 0:
                return send_one(at);
            case 1:
                return send_many(at);
            case 2:
                return receive_one(at);
            case 3:
                return receive_many(at);
            case 4:
            case 5:
                return choose();
            default:
                return end_something(at);
        }
    }

    void send_one(std::size_t at) {
        Message message = fresh();
        const std::uint64_t number = number_of(message);
        const Status status =
            below(2) ? channels_[at]->try_send(who_, message) : send(*channels_[at], who_, message, soon());
        if (status == Status::ok) sent_.push_back({at, number});
    }

    void send_many(std::size_t at) {
        std::vector<std::uint64_t> numbers;
        MessageQueue messages;
        for (std::uint64_t i = 0, count = 1 + below(5); i < count; ++i) {
            Message message = fresh();
            numbers.push_back(number_of(message));
            messages.push(std::move(message));
        }
        Channel& channel = *channels_[at];
        Status status = channel.try_send_many(who_, messages);
        if (status == Status::full) status = wait_to_send(channel, messages);
        if (status == Status::ending) {  // what was not sent yet is gone with the interpreter
            for (const std::uint64_t number : numbers) perhaps_sent_.push_back({at, number});
            return;
        }
        for (std::size_t i = 0; i < numbers.size() - messages.size(); ++i) sent_.push_back({at, numbers[i]});
    }

    // As the bindings do it: what was not sent stays in the queue.
    Status wait_to_send(Channel& channel, MessageQueue& messages) {
        Status status;
        do {
            Waiter waiter(who_, "send", channel.id(), Side::send);
            SendEntry entry;
            entry.waiter = &waiter;
            entry.message = messages.pop();
            entry.rest.swap(messages);
            status = channel.enlist_send(entry);
            if (status == Status::parked) {
                static_cast<void>(waiter.wait(soon(), &channel.spin(Side::send)));
                status = channel.finish_send(entry);
            }
            entry.rest.swap(messages);
            if (status != Status::ok && entry.message) messages.push_front(std::move(entry.message));
        } while (status == Status::retry);
        return status;
    }

    void receive_one(std::size_t at) {
        Message message;
        const Status status =
            below(2) ? channels_[at]->try_recv(who_, message) : recv(*channels_[at], who_, message, soon());
        if (status == Status::ok) received_.push_back({at, number_of(message)});
    }

    void receive_many(std::size_t at) {
        std::vector<Message> messages;
        if (channels_[at]->try_recv_many(who_, 1 + below(5), messages) != Status::ok) return;
        // Sometimes the objects cannot be made of them: they were not received.
        if (below(4) == 0) channels_[at]->put_back(messages);
        for (const Message& message : messages)
            if (message) received_.push_back({at, number_of(message)});
    }

    void choose() {
        std::vector<Select::Case> cases;
        std::vector<Move> moves;
        for (std::uint64_t i = 0, count = 1 + below(4); i < count; ++i) {
            const std::size_t at = below(channels_.size());
            if (below(2)) {
                cases.push_back(recv_case(channels_[at]));
                moves.push_back({at, 0});
            } else {
                cases.push_back({channels_[at], Side::send, fresh()});
                moves.push_back({at, number_of(cases.back().message)});
            }
        }
        std::uint32_t chosen = 0;
        if (select(who_, cases, chosen, random_(), soon()) != Status::ok) return;
        if (cases[chosen].side == Side::send) sent_.push_back(moves[chosen]);
        else received_.push_back({moves[chosen].channel, number_of(cases[chosen].message)});
    }

    void end_something(std::size_t at) {
        switch (below(40)) {
            case 0:
                channels_[at]->close(Side::recv, who_);
                return;
            case 1:
                channels_[at]->close(Side::send, who_);
                return;
            case 2:
                channels_[at]->poison({});
                return;
            case 3:
                channels_[at]->end_interpreter(who_);
                return;
            default:
                channels_[at]->associate(below(2) ? Side::recv : Side::send, who_);
                return;
        }
    }

    std::mt19937_64 random_;
    const std::uint64_t index_;
    const OwnerId who_;
    const std::vector<Handle<Channel>>& channels_;
    const bool violent_;
    Tally& tally_;
    std::uint64_t next_ = 0;
    std::vector<Move> sent_;
    std::vector<Move> perhaps_sent_;
    std::vector<Move> received_;
};

std::vector<Handle<Channel>> some_channels(std::mt19937_64& random) {
    std::vector<Handle<Channel>> channels;
    for (int i = 0; i < 3; ++i) channels.push_back(make_channel(flavours[random() % std::size(flavours)]));
    return channels;
}

std::set<std::uint64_t> numbers_at(std::size_t channel, const std::vector<const std::vector<Move>*>& logs) {
    std::set<std::uint64_t> numbers;
    for (const std::vector<Move>* log : logs) {
        for (const Move& one : *log) {
            if (one.channel == channel) CHECK(numbers.insert(one.number).second);  // not twice
        }
    }
    return numbers;
}

void check_round(const std::vector<std::unique_ptr<Actor>>& actors,
                 const std::vector<Handle<Channel>>& channels, bool violent) {
    std::vector<const std::vector<Move>*> sends, perhaps, receives;
    for (const auto& actor : actors) {
        sends.push_back(&actor->sent());
        perhaps.push_back(&actor->perhaps_sent());
        receives.push_back(&actor->received());
    }
    for (std::size_t at = 0; at < channels.size(); ++at) {
        const std::set<std::uint64_t> sent = numbers_at(at, sends), more = numbers_at(at, perhaps);
        std::set<std::uint64_t> received = numbers_at(at, receives);
        const ChannelStatistics now = channels[at]->statistics();
        CHECK_EQ(now.waiting_receivers + now.waiting_senders, 0u);
        CHECK(now.sent >= sent.size() && now.sent <= sent.size() + more.size());
        CHECK_EQ(now.received, received.size());
        MessageQueue left = channels[at]->drain();
        while (!left.empty()) CHECK(received.insert(number_of(left.pop())).second);
        for (const std::uint64_t number : received) CHECK(sent.contains(number) || more.contains(number));
        if (!violent) CHECK_EQ(received.size(), sent.size());
    }
}

void round_of_moves(std::uint64_t seed, bool violent) {
    std::mt19937_64 random(seed);
    Tally tally;
    {
        const std::vector<Handle<Channel>> channels = some_channels(random);
        const OwnerId interpreters[] = {new_id(), new_id(), new_id()};
        std::vector<std::unique_ptr<Actor>> actors;
        for (std::uint64_t i = 0; i < 6; ++i) {
            actors.push_back(std::make_unique<Actor>(seed, i, interpreters[i % 3], channels, violent, tally));
        }
        std::vector<std::thread> threads;
        for (const auto& actor : actors) threads.emplace_back([&actor] { actor->run(150); });
        for (std::thread& thread : threads) thread.join();
        CHECK_EQ(registry().waiters.size(), 0u);
        check_round(actors, channels, violent);
    }
    CHECK_EQ(tally.made.load(), tally.destroyed.load());
}

}  // namespace

TEST(random_moves_lose_and_repeat_nothing) {
    for_each_seed([](std::uint64_t seed) { round_of_moves(seed, false); });
}

TEST(random_moves_and_ends_lose_and_repeat_nothing) {
    for_each_seed([](std::uint64_t seed) { round_of_moves(seed, true); });
}

int main(int count, char** arguments) { return check::run(count, arguments); }
