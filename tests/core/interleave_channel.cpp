// Every interleaving of small scenarios, one call at a time.
//
// What is checked in all of them: nothing is lost, made up or received twice, each sender's messages arrive
// in order, every call ends, and nobody is left in line.
#include <algorithm>
#include <optional>

#include "blocking.hpp"
#include "explore.hpp"

using namespace fake;

namespace {

// What all actors of one execution have seen.
struct History {
    std::vector<std::uint64_t> sent;
    std::vector<std::uint64_t> received;
    std::vector<Status> failures;
};

class Sender final : public Actor {
   public:
    Sender(Handle<Channel> channel, OwnerId who, std::vector<std::uint64_t> numbers, History& history)
        : channel_(std::move(channel)), who_(who), numbers_(std::move(numbers)), history_(history) {}
    bool done() const override { return next_ == numbers_.size(); }
    bool ready() const override { return !waiter_ || waiter_->settled(); }
    void step() override {
        Status status;
        if (!waiter_) {
            waiter_.emplace(who_, "send", channel_->id(), Side::send);
            entry_.waiter = &*waiter_;
            entry_.message = numbered(numbers_[next_]);
            status = channel_->enlist_send(entry_);
            if (status == Status::parked) return;
        } else {
            status = channel_->finish_send(entry_);
        }
        waiter_.reset();
        if (status == Status::retry) return;
        if (status == Status::ok) history_.sent.push_back(numbers_[next_]);
        else history_.failures.push_back(status);
        CHECK_EQ(static_cast<bool>(entry_.message), status != Status::ok);  // given back if not sent
        entry_.message.reset();
        ++next_;
    }

   private:
    const Handle<Channel> channel_;
    const OwnerId who_;
    const std::vector<std::uint64_t> numbers_;
    History& history_;
    std::optional<Waiter> waiter_;
    SendEntry entry_;
    std::size_t next_ = 0;
};

// A wait that may time out can be finished at any moment; one that quits gives up even what it was granted,
// as an interrupted call does.
enum class Patience { endless, timed, quits };

// One that looks gets in line as a detached call does, and tries in a step of its own.
class Receiver final : public Actor {
   public:
    Receiver(Handle<Channel> channel, OwnerId who, std::size_t count, Patience patience, bool looks,
             History& history)
        : channel_(std::move(channel)),
          who_(who),
          count_(count),
          patience_(patience),
          looks_(looks && channel_->shows_messages()),
          history_(history) {}
    bool done() const override { return count_ == 0; }
    bool ready() const override { return !in_line_ || patience_ != Patience::endless || waiter_->settled(); }
    void step() override {
        Status status;
        if (!waiter_) {
            waiter_.emplace(who_, "recv", channel_->id(), Side::recv);
            entry_ = std::make_unique<RecvEntry>();
            entry_->waiter = &*waiter_;
            if (looks_) {
                in_line_ = channel_->look_and_line_up(*entry_) == Status::parked;
                return;
            }
        }
        if (!in_line_) {
            status = channel_->enlist_recv(*entry_, message_);
            in_line_ = status == Status::parked;
            if (in_line_) return;
        } else if (patience_ == Patience::quits) {
            channel_->withdraw(*entry_);
            status = Status::interrupted;
        } else {
            status = channel_->finish_recv(*entry_, message_);
        }
        waiter_.reset();
        in_line_ = false;
        if (status == Status::retry) return;
        if (status == Status::ok) history_.received.push_back(number_of(message_));
        else history_.failures.push_back(status);
        message_.reset();
        --count_;
    }

   private:
    const Handle<Channel> channel_;
    const OwnerId who_;
    std::size_t count_;
    const Patience patience_;
    const bool looks_;
    History& history_;
    std::optional<Waiter> waiter_;
    std::unique_ptr<RecvEntry> entry_;
    bool in_line_ = false;
    Message message_;
};

class Selector final : public Actor {
   public:
    using Make = std::function<std::vector<Select::Case>()>;
    Selector(OwnerId who, std::size_t count, bool timed, const Make& make, std::uint64_t seed,
             History& history)
        : who_(who), count_(count), timed_(timed), make_(make), seed_(seed), history_(history) {}
    bool done() const override { return count_ == 0; }
    bool ready() const override { return !parked_ || timed_ || settled(); }
    void step() override {
        if (!call_) {
            cases_ = make_();
            call_.emplace(who_, cases_, seed_);
        }
        std::uint32_t chosen = 0;
        Status status = parked_ ? call_->finish(chosen) : call_->enlist(chosen);
        parked_ = status == Status::parked;
        if (parked_) return;
        if (status == Status::retry) {
            call_->begin_again();
            return;
        }
        call_.reset();
        if (status != Status::ok) {
            history_.failures.push_back(status);
        } else if (cases_[chosen].side == Side::recv) {
            history_.received.push_back(number_of(cases_[chosen].message));
        } else {
            history_.sent.push_back(sent_number);
        }
        --count_;
        cases_.clear();
    }
    bool settled() const { return const_cast<Select&>(*call_).waiter().settled(); }
    static constexpr std::uint64_t sent_number = 900;

   private:
    const OwnerId who_;
    std::size_t count_;
    const bool timed_;
    const Make make_;
    const std::uint64_t seed_;
    History& history_;
    std::vector<Select::Case> cases_;
    std::optional<Select> call_;
    bool parked_ = false;
};

struct Scenario {
    std::vector<Handle<Channel>> channels;
    History history;
    std::vector<std::unique_ptr<Actor>> actors;

    void send(const Handle<Channel>& channel, OwnerId who, std::vector<std::uint64_t> numbers) {
        actors.push_back(std::make_unique<Sender>(channel, who, std::move(numbers), history));
    }
    // Every second one looks first.
    void receive(const Handle<Channel>& channel, OwnerId who, std::size_t count, Patience patience) {
        const bool looks = actors.size() % 2 == 0;
        actors.push_back(std::make_unique<Receiver>(channel, who, count, patience, looks, history));
    }
    void select(OwnerId who, bool timed, const Selector::Make& make, std::uint64_t seed) {
        actors.push_back(std::make_unique<Selector>(who, 1, timed, make, seed, history));
    }
    void close(const Handle<Channel>& channel, Side side, OwnerId who) {
        std::vector<std::function<void()>> what{[channel, side, who] { channel->close(side, who); }};
        actors.push_back(std::make_unique<Steps>(std::move(what)));
    }
    void check_idle() const {
        for (const auto& channel : channels) {
            CHECK_EQ(channel->statistics().waiting_receivers, 0u);
            CHECK_EQ(channel->statistics().looking_receivers, 0u);
            CHECK_EQ(channel->statistics().waiting_senders, 0u);
        }
    }
};

// What was sent was received, or is still queued, once; each hundred is one sender's, in order.
void check_complete(Scenario& scenario) {
    History& history = scenario.history;
    std::vector<std::uint64_t> arrived = history.received;
    for (const auto& channel : scenario.channels) {
        MessageQueue left = channel->drain();
        while (!left.empty()) arrived.push_back(number_of(left.pop()));
    }
    std::ranges::sort(arrived);
    std::ranges::sort(history.sent);
    CHECK_EQ(arrived, history.sent);
}

void check_order(const History& history) {
    for (std::size_t i = 0; i < history.received.size(); ++i) {
        for (std::size_t k = i + 1; k < history.received.size(); ++k) {
            if (history.received[i] / 100 != history.received[k] / 100) continue;
            CHECK(history.received[i] < history.received[k]);
        }
    }
}

constexpr std::size_t capacities[] = {0, 1, unlimited};

}  // namespace

TEST(two_senders_one_receiver) {
    for (const std::size_t capacity : capacities) {
        const OwnerId who = new_id();
        const std::size_t count = explore<Scenario>(
            [&](Scenario& scenario) {
                auto channel = make_channel(capacity);
                scenario.send(channel, who, {100, 101});
                scenario.send(channel, who, {200, 201});
                scenario.receive(channel, who, 4, Patience::endless);
                scenario.channels = {channel};
            },
            [](Scenario& scenario) {
                CHECK_EQ(scenario.history.sent.size(), 4u);
                CHECK_EQ(scenario.history.received.size(), 4u);
                check_order(scenario.history);
                check_complete(scenario);
            });
        CHECK(count > 10);
    }
}

// First in, first out even where a message was granted to a receiver that has yet to come for it.
TEST(one_sender_two_receivers) {
    for (const std::size_t capacity : capacities) {
        const OwnerId who = new_id();
        explore<Scenario>(
            [&](Scenario& scenario) {
                auto channel = make_channel(capacity);
                scenario.send(channel, who, {100, 101, 102});
                scenario.receive(channel, who, 1, Patience::endless);
                scenario.receive(channel, who, 2, Patience::endless);
                scenario.channels = {channel};
            },
            [](Scenario& scenario) {
                CHECK_EQ(scenario.history.received.size(), 3u);
                check_order(scenario.history);
                check_complete(scenario);
            });
    }
}

TEST(a_close_amid_sends_and_receives) {
    for (const std::size_t capacity : capacities) {
        for (const Side side : {Side::send, Side::recv}) {
            const OwnerId sending = new_id(), receiving = new_id();
            explore<Scenario>(
                [&](Scenario& scenario) {
                    auto channel = make_channel(capacity);
                    channel->associate(Side::send, sending);
                    channel->associate(Side::recv, receiving);
                    scenario.send(channel, sending, {100, 101});
                    scenario.receive(channel, receiving, 2, Patience::endless);
                    scenario.close(channel, side, side == Side::send ? sending : receiving);
                    scenario.channels = {channel};
                },
                [&](Scenario& scenario) {
                    History& history = scenario.history;
                    check_order(history);
                    for (const Status status : history.failures) {
                        CHECK(status == Status::closed || status == Status::ended ||
                              status == Status::broken);
                    }
                    // A receiver that closes gives up what is queued; a sender that closes does not.
                    if (side == Side::send) check_complete(scenario);
                    CHECK(history.received.size() <= history.sent.size());
                    CHECK_EQ(history.sent.size() + history.received.size() + history.failures.size(), 4u);
                });
        }
    }
}

// A close of the senders lets receivers that are left without a message end, so nobody waits for ever.
TEST(two_senders_two_receivers_a_time_out_and_a_close) {
    for (const std::size_t capacity : capacities) {
        const OwnerId who = new_id();
        explore<Scenario>(
            [&](Scenario& scenario) {
                auto channel = make_channel(capacity);
                channel->associate(Side::send, who);
                for (const std::uint64_t number : {100u, 200u}) scenario.send(channel, who, {number});
                for (const Patience patience : {Patience::timed, Patience::endless})
                    scenario.receive(channel, who, 1, patience);
                scenario.close(channel, Side::send, who);
                scenario.channels = {channel};
            },
            [](Scenario& scenario) { check_complete(scenario); });
    }
}

TEST(what_a_call_was_granted_that_quits_goes_to_the_next) {
    for (const std::size_t capacity : capacities) {
        const OwnerId who = new_id();
        explore<Scenario>(
            [&](Scenario& scenario) {
                auto channel = make_channel(capacity);
                channel->associate(Side::send, who);
                scenario.send(channel, who, {100});
                for (const Patience patience : {Patience::quits, Patience::endless})
                    scenario.receive(channel, who, 1, patience);
                scenario.close(channel, Side::send, who);
                scenario.channels = {channel};
            },
            [](Scenario& scenario) { check_complete(scenario); });
    }
}

TEST(two_selects_over_two_channels) {
    for (const std::size_t capacity : {std::size_t{1}, unlimited}) {
        for (const std::uint64_t seed : {1u, 7u, 12345u}) {
            const OwnerId who = new_id();
            explore<Scenario>(
                [&](Scenario& scenario) {
                    auto one = make_channel(capacity), two = make_channel(capacity);
                    const auto both = [one, two] {
                        std::vector<Select::Case> cases;
                        cases.push_back(recv_case(one));
                        cases.push_back(recv_case(two));
                        return cases;
                    };
                    scenario.send(one, who, {100});
                    scenario.send(two, who, {200});
                    scenario.select(who, false, both, seed);
                    scenario.select(who, true, both, seed + 1);
                    scenario.channels = {one, two};
                },
                [](Scenario& scenario) {
                    CHECK_EQ(scenario.history.sent.size(), 2u);
                    check_complete(scenario);
                });
        }
    }
}

// A select that sends on one rendezvous and receives from another, and partners that may give up.
TEST(a_select_of_both_sides_in_a_rendezvous) {
    for (const std::uint64_t seed : {1u, 7u}) {
        const OwnerId who = new_id();
        explore<Scenario>(
            [&](Scenario& scenario) {
                auto in = make_channel(0), out = make_channel(0);
                for (const auto& channel : {in, out}) {
                    channel->associate(Side::send, who);
                    channel->associate(Side::recv, who);
                }
                const auto cases = [in, out] {
                    std::vector<Select::Case> made;
                    made.push_back(recv_case(in));
                    made.push_back(send_case(out, Selector::sent_number));
                    return made;
                };
                scenario.select(who, true, cases, seed);
                scenario.send(in, who, {100});
                scenario.receive(out, who, 1, Patience::timed);
                // or the sender would wait for ever for a select that timed out
                scenario.close(in, Side::send, who);
                scenario.channels = {in, out};
            },
            [](Scenario& scenario) { check_complete(scenario); });
    }
}

int main(int count, char** arguments) { return check::run(count, arguments); }
