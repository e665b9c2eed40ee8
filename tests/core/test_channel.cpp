#include <algorithm>
#include <map>
#include <numeric>

#include "flavours.hpp"

using namespace fake;

FLAVOUR_TEST(smoke) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    std::thread sending([&] { CHECK_EQ(send_number(*channel, sender, 7), Status::ok); });
    CHECK_EQ(recv_number(*channel, receiver), 7u);
    sending.join();
    Message message;
    CHECK_EQ(channel->try_recv(receiver, message), Status::empty);
    CHECK(!message);
}

FLAVOUR_TEST(capacity) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    for (std::size_t i = 0; i < places(capacity); ++i) {
        Message message = numbered(i);
        CHECK_EQ(channel->try_send(who, message), Status::ok);
        CHECK(!message);
    }
    if (capacity == unlimited) return;
    Message message = numbered(99);
    CHECK_EQ(channel->try_send(who, message), Status::full);
    CHECK_EQ(number_of(message), 99u);  // a failed send gives the message back
    if (capacity == 0) return;
    CHECK_EQ(recv_number(*channel, who), 0u);
    CHECK_EQ(channel->try_send(who, message), Status::ok);
    message = numbered(100);
    CHECK_EQ(channel->try_send(who, message), Status::full);
}

FLAVOUR_TEST(len) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    CHECK_EQ(channel->size(), 0u);
    for (std::size_t i = 0; i < places(capacity); ++i) {
        CHECK_EQ(send_number(*channel, who, i), Status::ok);
        CHECK_EQ(channel->size(), i + 1);
    }
    for (std::size_t i = places(capacity); i-- > 0;) {
        recv_number(*channel, who);
        CHECK_EQ(channel->size(), i);
    }
}

FLAVOUR_TEST(recv) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    constexpr std::uint64_t count = 500;
    std::thread sending([&] {
        for (std::uint64_t i = 0; i < count; ++i) CHECK_EQ(send_number(*channel, who, i), Status::ok);
    });
    for (std::uint64_t i = 0; i < count; ++i) CHECK_EQ(recv_number(*channel, who), i);
    sending.join();
    const ChannelStatistics now = channel->statistics();
    CHECK_EQ(now.sent, count);
    CHECK_EQ(now.received, count);
}

FLAVOUR_TEST(recv_timeout) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    Message message;
    CHECK_EQ(recv(*channel, who, message, in_ms(3)), Status::timeout);
    CHECK(!message);
    CHECK_EQ(channel->statistics().waiting_receivers, 0u);
    CHECK_EQ(registry().waiters.size(), 0u);
    // The call that gave up takes nothing that comes later.
    std::thread sending([&] { CHECK_EQ(send_number(*channel, who, 5), Status::ok); });
    CHECK_EQ(recv_number(*channel, who), 5u);
    sending.join();
}

FLAVOUR_TEST(send_timeout) {
    if (capacity == unlimited) return;  // its sends never wait
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(send_number(*channel, who, i), Status::ok);
    Message message = numbered(77);
    CHECK_EQ(send(*channel, who, message, in_ms(3)), Status::timeout);
    CHECK_EQ(number_of(message), 77u);
    CHECK_EQ(channel->statistics().waiting_senders, 0u);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(recv_number(*channel, who), i);
    Message nothing;
    CHECK_EQ(channel->try_recv(who, nothing), Status::empty);
    CHECK_EQ(channel->statistics().sent, capacity);
}

FLAVOUR_TEST(the_end_of_sending_wakes_receivers) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    channel->associate(Side::send, sender);
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
            Message message;
            CHECK_EQ(recv(*channel, receiver, message), Status::ended);
            CHECK(!message);
        });
    }
    until_parked(3);
    CHECK(channel->close(Side::send, sender));
    for (auto& thread : threads) thread.join();
    Message message;
    CHECK_EQ(channel->try_recv(receiver, message), Status::ended);
    CHECK_EQ(recv(*channel, new_id(), message), Status::ended);
}

FLAVOUR_TEST(the_end_of_receiving_wakes_senders) {
    if (capacity == unlimited) return;
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    channel->associate(Side::recv, receiver);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(send_number(*channel, sender, i), Status::ok);
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 3; ++i) {
        threads.emplace_back([&, i] {
            Message message = numbered(i);
            CHECK_EQ(send(*channel, sender, message), Status::broken);
            CHECK_EQ(number_of(message), i);
        });
    }
    until_parked(3);
    CHECK(channel->close(Side::recv, receiver));
    for (auto& thread : threads) thread.join();
    CHECK_EQ(channel->size(), 0u);
}

FLAVOUR_TEST(what_is_queued_is_drained_before_the_end) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    for (std::size_t i = 0; i < places(capacity); ++i) CHECK_EQ(send_number(*channel, sender, i), Status::ok);
    channel->close(Side::send, sender);
    for (std::size_t i = 0; i < places(capacity); ++i) CHECK_EQ(recv_number(*channel, receiver), i);
    Message message;
    CHECK_EQ(channel->try_recv(receiver, message), Status::ended);
}

FLAVOUR_TEST(waiting_senders_are_no_part_of_the_queue_that_is_drained) {
    if (capacity == unlimited) return;
    // Their interpreter closed the end while they waited: they have not sent.
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(send_number(*channel, sender, i), Status::ok);
    std::thread sending([&] {
        Message message = numbered(50);
        CHECK_EQ(send(*channel, sender, message), Status::closed);
        CHECK_EQ(number_of(message), 50u);
    });
    until_parked(1);
    channel->close(Side::send, sender);
    sending.join();
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(recv_number(*channel, receiver), i);
    Message message;
    CHECK_EQ(channel->try_recv(receiver, message), Status::ended);
}

FLAVOUR_TEST(send_after_disconnect) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    Tally tally;
    for (std::size_t i = 0; i < places(capacity); ++i) {
        Message message = numbered(i, counted(tally));
        CHECK_EQ(channel->try_send(sender, message), Status::ok);
    }
    channel->close(Side::recv, receiver);
    CHECK_EQ(tally.destroyed.load(), tally.made.load());  // nobody will receive them: they went back
    Message message = numbered(1, counted(tally));
    CHECK_EQ(channel->try_send(sender, message), Status::broken);
    CHECK_EQ(send(*channel, sender, message), Status::broken);
    CHECK_EQ(number_of(message), 1u);
    message.reset();
    CHECK_EQ(tally.destroyed.load(), tally.made.load());
}

FLAVOUR_TEST(drops_with_the_channel) {
    const OwnerId who = new_id();
    Tally tally;
    {
        Handle<Channel> channel = make_channel(capacity);
        for (std::size_t i = 0; i < places(capacity); ++i) {
            Message message = numbered(i, counted(tally));
            CHECK_EQ(channel->try_send(who, message), Status::ok);
        }
        if (capacity) recv_number(*channel, who);
        CHECK_EQ(tally.destroyed.load(), capacity ? 1 : 0);
    }
    CHECK_EQ(tally.made.load(), tally.destroyed.load());
}

FLAVOUR_TEST(spsc) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    constexpr std::uint64_t count = 5000;
    Tally tally;
    std::thread sending([&] {
        for (std::uint64_t i = 0; i < count; ++i) {
            Message message = numbered(i, counted(tally));
            CHECK_EQ(send(*channel, sender, message), Status::ok);
        }
        channel->close(Side::send, sender);
    });
    std::uint64_t expected = 0;
    for (;;) {
        Message message;
        const Status status = recv(*channel, receiver, message);
        if (status == Status::ended) break;
        CHECK_EQ(status, Status::ok);
        CHECK_EQ(number_of(message), expected++);
    }
    sending.join();
    CHECK_EQ(expected, count);
    CHECK_EQ(tally.destroyed.load(), static_cast<long>(count));
}

FLAVOUR_TEST(mpmc) {
    Handle<Channel> channel = make_channel(capacity);
    constexpr std::uint64_t senders = 3, receivers = 3, count = 1500;
    std::vector<OwnerId> who(senders);
    for (OwnerId& one : who) channel->associate(Side::send, one = new_id());
    std::vector<std::thread> threads;
    std::vector<std::vector<std::uint64_t>> got(receivers);
    for (std::uint64_t s = 0; s < senders; ++s) {
        threads.emplace_back([&, s] {
            for (std::uint64_t i = 0; i < count; ++i)
                CHECK_EQ(send_number(*channel, who[s], s << 32 | i), Status::ok);
            channel->close(Side::send, who[s]);
        });
    }
    for (auto& list : got) {
        threads.emplace_back([&] {
            const OwnerId self = new_id();
            Message message;
            Status status;
            for (; (status = recv(*channel, self, message)) == Status::ok; message.reset())
                list.push_back(number_of(message));
            CHECK_EQ(status, Status::ended);
        });
    }
    for (auto& thread : threads) thread.join();
    std::vector<std::uint64_t> all;
    for (const auto& list : got) {
        // What one receiver gets of one sender comes in the order in which it was sent.
        std::map<std::uint64_t, std::uint64_t> next;
        for (const std::uint64_t number : list) {
            CHECK(number >= next[number >> 32]);
            next[number >> 32] = number + 1;
        }
        all.insert(all.end(), list.begin(), list.end());
    }
    std::sort(all.begin(), all.end());
    CHECK_EQ(all.size(), senders * count);
    for (std::uint64_t s = 0; s < senders; ++s)
        for (std::uint64_t i = 0; i < count; ++i) CHECK_EQ(all[s * count + i], (s << 32 | i));
}

FLAVOUR_TEST(receivers_are_served_in_the_order_of_their_coming) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    std::vector<std::thread> threads;
    std::vector<std::uint64_t> got(4);
    for (std::size_t i = 0; i < got.size(); ++i) {
        threads.emplace_back([&, i] { got[i] = recv_number(*channel, who); });
        until_waiting(*channel, i + 1, 0);
    }
    // One at a time: which of several woken receivers comes first to take its grant is open.
    for (std::size_t i = 0; i < got.size(); ++i) {
        CHECK_EQ(send_number(*channel, who, 10 + i), Status::ok);
        threads[i].join();
        CHECK_EQ(got[i], 10 + i);
    }
}

TEST(a_rendezvous_is_first_in_first_out_with_grants_under_way) {
    Handle<Channel> channel = make_channel(0);
    const OwnerId who = new_id();
    Waiter waiting(who, "recv", channel->id()), sending(who, "send", channel->id());
    RecvEntry granted;
    granted.waiter = &waiting;
    Message first = numbered(1), got;
    CHECK_EQ(channel->enlist_recv(granted, got), Status::parked);
    CHECK_EQ(channel->try_send(who, first), Status::ok);
    SendEntry second;
    second.waiter = &sending;
    second.message = numbered(2);
    CHECK_EQ(channel->enlist_send(second), Status::parked);
    // Another receiver comes before the granted one has woken up.
    CHECK_EQ(recv_number(*channel, who), 1u);
    CHECK_EQ(channel->finish_send(second), Status::ok);
    CHECK_EQ(channel->finish_recv(granted, got), Status::ok);
    CHECK_EQ(number_of(got), 2u);
}

TEST(a_sticky_channel_serves_who_came_last) {
    host();
    ChannelTraits traits;
    traits.sticky = true;
    Handle<Channel> channel = Channel::make(traits);
    const OwnerId who = new_id();
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 3; ++i) {
        threads.emplace_back([&, i] { CHECK_EQ(recv_number(*channel, who), 2 - i); });
        until_waiting(*channel, i + 1, 0);
    }
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK_EQ(send_number(*channel, who, i), Status::ok);
        threads[2 - i].join();
    }
}

// Also while it looks, which makes it the one that is awake.
TEST(a_sticky_channel_serves_who_came_last_and_looks) {
    host();
    const OwnerId who = new_id();
    for (int round = 0; round < 100; ++round) {
        ChannelTraits traits;
        traits.sticky = true;
        Handle<Channel> channel = Channel::make(traits);
        Waiter parked(who, "recv", channel->id(), Side::recv);
        RecvEntry entry;
        entry.waiter = &parked;
        Message message;
        CHECK_EQ(channel->enlist_recv(entry, message), Status::parked);
        std::thread last([&] { CHECK_EQ(recv_number(*channel, who), 1u); });
        for (ChannelStatistics now; now.looking_receivers + now.waiting_receivers < 2;)
            now = channel->statistics();
        CHECK_EQ(send_number(*channel, who, 1), Status::ok);
        CHECK(!parked.settled());
        last.join();
        CHECK_EQ(channel->finish_recv(entry, message), Status::timeout);
    }
}

FLAVOUR_TEST(senders_are_served_in_the_order_of_their_coming) {
    if (capacity == unlimited) return;
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(send_number(*channel, who, i), Status::ok);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] { CHECK_EQ(send_number(*channel, who, capacity + i), Status::ok); });
        until_waiting(*channel, 0, i + 1);
    }
    for (std::size_t i = 0; i < capacity + 4; ++i) CHECK_EQ(recv_number(*channel, who), i);
    for (auto& thread : threads) thread.join();
}

FLAVOUR_TEST(nobody_overtakes_a_waiting_sender) {
    if (capacity == unlimited || capacity == 0) return;
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(send_number(*channel, who, i), Status::ok);
    std::thread sending([&] { CHECK_EQ(send_number(*channel, who, 100), Status::ok); });
    until_waiting(*channel, 0, 1);
    CHECK_EQ(recv_number(*channel, who), 0u);  // and its place goes to the one in line
    Message message = numbered(200);
    CHECK_EQ(channel->try_send(who, message), Status::full);
    sending.join();
    for (std::size_t i = 1; i < capacity; ++i) CHECK_EQ(recv_number(*channel, who), i);
    CHECK_EQ(recv_number(*channel, who), 100u);
}

FLAVOUR_TEST(channel_through_channel) {
    Handle<Channel> outer = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    std::thread sending([&] {
        Handle<Channel> inner = make_channel(capacity);
        Message message = Message::make(2, 0, 0);
        message.add_rider(Handle<Channel>(inner), Side::recv);
        CHECK_EQ(send(*outer, sender, message), Status::ok);
        for (std::uint64_t i = 0; i < 100; ++i) CHECK_EQ(send_number(*inner, sender, i), Status::ok);
        inner->close(Side::send, sender);
    });
    Message message;
    CHECK_EQ(recv(*outer, receiver, message), Status::ok);
    CHECK_EQ(message.riders().size(), 1u);
    auto& inner = static_cast<Channel&>(message.riders()[0].object());
    const auto kept = Handle<Channel>::share(&inner);
    inner.associate(Side::recv, receiver);
    message.reset();
    for (std::uint64_t i = 0; i < 100; ++i) CHECK_EQ(recv_number(inner, receiver), i);
    CHECK_EQ(recv(inner, receiver, message), Status::ended);
    sending.join();
}

FLAVOUR_TEST(statistics_tell_who_waits_and_who_uses_it) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    std::thread receiving([&] { recv_number(*channel, receiver); });
    until_waiting(*channel, 1, 0);
    ChannelStatistics now = channel->statistics();
    CHECK_EQ(now.receivers, std::vector<OwnerId>{receiver});
    CHECK(now.senders.empty());
    CHECK_EQ(send_number(*channel, sender, 1), Status::ok);
    receiving.join();
    for (std::size_t i = 0; i < std::min<std::size_t>(capacity, 2); ++i)
        CHECK_EQ(send_number(*channel, sender, i), Status::ok);
    now = channel->statistics();
    CHECK_EQ(now.queued, std::min<std::size_t>(capacity, 2));
    CHECK_EQ(now.sent, 1 + std::min<std::size_t>(capacity, 2));
    CHECK_EQ(now.received, 1u);
    CHECK_EQ(now.senders, std::vector<OwnerId>{sender});
    CHECK(!now.recv_over && !now.send_over && !now.poisoned && !now.broadcast);
}

// --- looking before getting in line

namespace {

struct Looking {
    Looking(Handle<Channel> among, OwnerId who)
        : channel(std::move(among)), waiter(who, "recv", channel->id(), Side::recv) {
        entry.waiter = &waiter;
    }
    Status look() { return channel->look_and_line_up(entry); }

    const Handle<Channel> channel;
    Waiter waiter;
    RecvEntry entry;
    Message message;
};

}  // namespace

TEST(who_looks_in_vain_is_in_line) {
    for (const std::size_t capacity : {std::size_t{1}, unlimited}) {
        Handle<Channel> channel = make_channel(capacity);
        const OwnerId who = new_id();
        Looking call(channel, who);
        CHECK_EQ(call.look(), Status::parked);
        CHECK_EQ(channel->statistics().waiting_receivers, 1u);
        CHECK_EQ(channel->statistics().looking_receivers, 0u);
        CHECK_EQ(channel->statistics().receivers, std::vector<OwnerId>{who});
        CHECK_EQ(send_number(*channel, who, 7), Status::ok);
        CHECK(call.waiter.settled());
        CHECK_EQ(channel->finish_recv(call.entry, call.message), Status::ok);
        CHECK_EQ(number_of(call.message), 7u);
    }
}

TEST(who_looks_takes_nothing) {
    Handle<Channel> channel = make_channel();
    const OwnerId who = new_id();
    CHECK_EQ(send_number(*channel, who, 7), Status::ok);
    Looking call(channel, who);
    CHECK_EQ(call.look(), Status::retry);
    CHECK(call.entry.queue == nullptr && !call.waiter.settled());
    CHECK_EQ(channel->size(), 1u);
    CHECK_EQ(channel->enlist_recv(call.entry, call.message), Status::ok);
    CHECK_EQ(number_of(call.message), 7u);
}

TEST(a_message_that_comes_is_seen_by_who_looks) {
    const OwnerId who = new_id();
    for (bool seen = false; !seen;) {  // the sender may be late
        Handle<Channel> channel = make_channel();
        Looking call(channel, who);
        std::atomic<bool> there{false};
        std::thread sending([&] {
            there = true;
            for (ChannelStatistics now; now.looking_receivers + now.waiting_receivers == 0;)
                now = channel->statistics();
            CHECK_EQ(send_number(*channel, who, 7), Status::ok);
        });
        while (!there) std::this_thread::yield();
        detail::note_wake();  // makes the look a longer one
        seen = call.look() == Status::retry;
        sending.join();
        if (seen) CHECK_EQ(channel->enlist_recv(call.entry, call.message), Status::ok);
        else CHECK_EQ(channel->finish_recv(call.entry, call.message), Status::ok);
        CHECK_EQ(number_of(call.message), 7u);
    }
}

// What was granted to a receiver in line is another's to see, and not to take.
TEST(who_looks_gets_in_line_behind_a_grant) {
    Handle<Channel> channel = make_channel();
    const OwnerId who = new_id();
    Looking first(channel, who), second(channel, who);
    CHECK_EQ(first.look(), Status::parked);
    CHECK_EQ(send_number(*channel, who, 1), Status::ok);
    CHECK_EQ(second.look(), Status::retry);
    CHECK_EQ(channel->enlist_recv(second.entry, second.message), Status::parked);
    CHECK_EQ(send_number(*channel, who, 2), Status::ok);
    CHECK_EQ(channel->finish_recv(second.entry, second.message), Status::ok);
    CHECK_EQ(channel->finish_recv(first.entry, first.message), Status::ok);
    CHECK_EQ(number_of(first.message) + number_of(second.message), 3u);
}

// Statuses that are no wait are enlist_recv()'s to tell.
TEST(who_looks_at_what_is_over_is_not_in_line) {
    const auto outcome = [](const auto& spoil) {
        Handle<Channel> channel = make_channel();
        const OwnerId who = new_id();
        channel->associate(Side::send, who);
        channel->associate(Side::recv, who);
        spoil(*channel, who);
        Looking call(channel, who);
        CHECK_EQ(call.look(), Status::retry);
        CHECK(call.entry.queue == nullptr);
        return channel->enlist_recv(call.entry, call.message);
    };
    CHECK_EQ(outcome([](Channel& channel, OwnerId who) { channel.close(Side::send, who); }), Status::ended);
    CHECK_EQ(outcome([](Channel& channel, OwnerId who) { channel.close(Side::recv, who); }), Status::closed);
    CHECK_EQ(outcome([](Channel& channel, OwnerId) { channel.poison({}); }), Status::poisoned);
    Handle<Channel> channel = make_channel(), subscription;
    const OwnerId who = new_id();
    CHECK_EQ(channel->subscribe(who, subscription), Status::ok);
    Looking call(channel, who);
    CHECK_EQ(call.look(), Status::retry);
    CHECK_EQ(channel->enlist_recv(call.entry, call.message), Status::misused);
}

FLAVOUR_TEST(drain_takes_all_and_lets_the_waiting_senders_in) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    for (std::size_t i = 0; i < places(capacity); ++i) CHECK_EQ(send_number(*channel, who, i), Status::ok);
    std::vector<std::thread> threads;
    if (capacity != unlimited && capacity != 0) {
        threads.emplace_back([&] { CHECK_EQ(send_number(*channel, who, 1000), Status::ok); });
        until_waiting(*channel, 0, 1);
    }
    MessageQueue drained = channel->drain();
    CHECK_EQ(drained.size(), places(capacity));
    for (std::size_t i = 0; i < places(capacity); ++i) CHECK_EQ(number_of(drained.pop()), i);
    for (auto& thread : threads) thread.join();
    CHECK_EQ(channel->size(), threads.size());
}

FLAVOUR_TEST(extract_takes_those_meant_leaves_the_order_and_lets_the_waiting_senders_in) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    const std::size_t full = places(capacity);
    for (std::size_t i = 0; i < full; ++i) CHECK_EQ(send_number(*channel, who, i), Status::ok);
    std::vector<std::thread> threads;
    if (capacity != unlimited && capacity != 0) {
        threads.emplace_back([&] { CHECK_EQ(send_number(*channel, who, full), Status::ok); });
        until_waiting(*channel, 0, 1);
    }
    CHECK_EQ(channel->extract([](const Message&) { return false; }).size(), 0u);
    MessageQueue even = channel->extract([](const Message& message) { return number_of(message) % 2 == 0; });
    for (auto& thread : threads) thread.join();
    CHECK_EQ(even.size(), (full + 1) / 2);
    for (std::size_t i = 0; i < full; i += 2) CHECK_EQ(number_of(even.pop()), i);
    MessageQueue rest = channel->drain();
    CHECK_EQ(rest.size(), full / 2 + threads.size());
    for (std::size_t i = 1; i < full; i += 2) CHECK_EQ(number_of(rest.pop()), i);
    for (std::size_t i = 0; i < threads.size(); ++i) CHECK_EQ(number_of(rest.pop()), full);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
