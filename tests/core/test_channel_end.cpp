// How channels end: closed sides, interpreters that go, poison; and grants that are not taken up.
#include "flavours.hpp"

using namespace fake;

namespace {

// A call that stays between its two halves: enlisted, its thread not back yet.
struct PendingRecv {
    PendingRecv(Channel& where, OwnerId who) : channel(where), waiter(who, "recv", where.id(), Side::recv) {
        entry.waiter = &waiter;
        CHECK_EQ(channel.enlist_recv(entry, message), Status::parked);
    }
    Status finish() { return channel.finish_recv(entry, message); }
    Channel& channel;
    Waiter waiter;
    RecvEntry entry;
    Message message;
};

struct PendingSend {
    PendingSend(Channel& where, OwnerId who, std::uint64_t number, LeaseRef lease = {})
        : channel(where), waiter(who, "send", where.id(), Side::send) {
        entry.waiter = &waiter;
        entry.message = numbered(number, std::move(lease));
        CHECK_EQ(channel.enlist_send(entry), Status::parked);
    }
    Status finish() { return channel.finish_send(entry); }
    Channel& channel;
    Waiter waiter;
    SendEntry entry;
};

void fill(Channel& channel, OwnerId who, Tally* tally = nullptr) {
    for (std::size_t i = 0; i < places(channel.traits().capacity); ++i) {
        Message message = numbered(i, tally ? counted(*tally) : LeaseRef());
        CHECK_EQ(channel.try_send(who, message), Status::ok);
    }
}

Status try_number(Channel& channel, OwnerId who, std::uint64_t number) {
    Message message = numbered(number);
    return channel.try_send(who, message);
}

Status try_receive(Channel& channel, OwnerId who) {
    Message message;
    return channel.try_recv(who, message);
}

std::vector<std::byte> reason() { return {std::byte{1}, std::byte{2}, std::byte{3}}; }

}  // namespace

// --- association
// ----------------------------------------------------------------------------------------------

FLAVOUR_TEST(close_tells_whether_the_interpreter_was_associated) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId used = new_id(), unused = new_id();
    try_receive(*channel, used);
    channel->associate(Side::send, used);
    CHECK(!channel->closed_by(Side::recv, used));
    CHECK(channel->close(Side::recv, used));
    CHECK(channel->closed_by(Side::recv, used));
    CHECK(!channel->close(Side::recv, used));
    CHECK(!channel->close(Side::send, unused));
    CHECK(channel->closed_by(Side::send, unused));
    CHECK(!channel->closed_by(Side::send, used));
    CHECK(channel->close(Side::send, used));
}

FLAVOUR_TEST(an_unused_channel_is_not_over) {
    Handle<Channel> channel = make_channel(capacity);
    CHECK_EQ(try_receive(*channel, new_id()), Status::empty);
    const ChannelStatistics now = channel->statistics();
    CHECK(!now.recv_over && !now.send_over);
}

FLAVOUR_TEST(a_failed_operation_associates_too) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId receiver = new_id(), sender = new_id();
    CHECK_EQ(try_receive(*channel, receiver), Status::empty);
    CHECK_EQ(try_number(*channel, sender, 1), capacity ? Status::ok : Status::full);
    CHECK_EQ(channel->statistics().receivers, std::vector<OwnerId>{receiver});
    CHECK_EQ(channel->statistics().senders, std::vector<OwnerId>{sender});
}

FLAVOUR_TEST(the_side_lasts_until_the_last_associated_leaves) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId one = new_id(), two = new_id(), receiver = new_id();
    channel->associate(Side::send, one);
    channel->associate(Side::send, two);
    channel->close(Side::send, one);
    CHECK_EQ(try_number(*channel, one, 1), Status::closed);
    CHECK_EQ(try_receive(*channel, receiver), Status::empty);
    channel->close(Side::send, two);
    CHECK_EQ(try_receive(*channel, receiver), Status::ended);
    CHECK_EQ(try_number(*channel, new_id(), 1), Status::closed);
}

FLAVOUR_TEST(looking_at_a_channel_associates_nobody) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId user = new_id();
    const Handle<Channel> found = registry().channels.find(channel->id());
    CHECK(found.get() == channel.get());
    static_cast<void>(found->statistics());
    static_cast<void>(registry().channels.all());
    channel->associate(Side::send, user);
    channel->close(Side::send, user);
    CHECK(channel->statistics().send_over);
}

FLAVOUR_TEST(an_end_on_the_way_keeps_its_side_alive) {
    Handle<Channel> channel = make_channel(capacity), carrier = make_channel();
    const OwnerId sender = new_id(), receiver = new_id();
    channel->associate(Side::send, sender);
    Message message = Message::make(2, 0, 0);
    message.add_rider(Handle<Channel>(channel), Side::send);
    CHECK_EQ(carrier->try_send(sender, message), Status::ok);
    CHECK_EQ(channel->statistics().senders_on_the_way, 1u);
    channel->close(Side::send, sender);
    CHECK_EQ(try_receive(*channel, receiver), Status::empty);
    Message taken;
    CHECK_EQ(carrier->try_recv(receiver, taken), Status::ok);
    channel->associate(Side::send, receiver);
    taken.reset();
    CHECK_EQ(channel->statistics().senders_on_the_way, 0u);
    CHECK_EQ(try_receive(*channel, receiver), Status::empty);
    channel->close(Side::send, receiver);
    CHECK_EQ(try_receive(*channel, receiver), Status::ended);
}

FLAVOUR_TEST(an_end_that_gets_lost_on_the_way_ends_its_side) {
    Handle<Channel> channel = make_channel(capacity), carrier = make_channel();
    const OwnerId sender = new_id(), receiver = new_id();
    for (const Side side : {Side::send, Side::recv, Side::both}) {
        Message message = Message::make(2, 0, 0);
        message.add_rider(Handle<Channel>(channel), side);
        CHECK_EQ(carrier->try_send(sender, message), Status::ok);
    }
    channel->close(Side::send, sender);
    channel->close(Side::recv, sender);
    std::thread waiting([&] {
        Message message;
        CHECK_EQ(recv(*channel, receiver, message), Status::ended);
    });
    until_parked(1);
    carrier->close(Side::recv, receiver);  // what it carries is dropped
    waiting.join();
    CHECK(channel->statistics().send_over);
    CHECK(!channel->statistics().recv_over);  // the waiting receiver was associated
    channel->close(Side::recv, receiver);
    CHECK(channel->statistics().recv_over);
}

// --- close
// -------------------------------------------------------------------------------------------------------

FLAVOUR_TEST(close_wakes_the_calls_of_its_interpreter_only) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId closing = new_id(), staying = new_id(), sender = new_id();
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            Message message;
            CHECK_EQ(recv(*channel, closing, message), Status::closed);
        });
    }
    threads.emplace_back([&] { CHECK_EQ(recv_number(*channel, staying), 4u); });
    until_parked(3);
    CHECK(channel->close(Side::recv, closing));
    threads[0].join();
    threads[1].join();
    CHECK_EQ(registry().waiters.size(), 1u);
    CHECK_EQ(send_number(*channel, sender, 4), Status::ok);
    threads[2].join();
    CHECK_EQ(try_receive(*channel, closing), Status::closed);
}

FLAVOUR_TEST(close_gives_the_grants_of_its_interpreter_to_others) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId closing = new_id(), staying = new_id(), sender = new_id();
    PendingRecv first(*channel, closing);
    CHECK_EQ(try_number(*channel, sender, 1), Status::ok);
    CHECK(first.waiter.settled());
    CHECK_EQ(try_receive(*channel, staying), Status::empty);  // granted: not for others
    PendingRecv second(*channel, staying);
    channel->close(Side::recv, closing);
    CHECK_EQ(second.finish(), Status::ok);
    CHECK_EQ(number_of(second.message), 1u);
    CHECK_EQ(first.finish(), Status::retry);
    CHECK_EQ(try_receive(*channel, closing), Status::closed);
}

FLAVOUR_TEST(closing_the_receiving_side_ends_granted_messages) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id(), sender = new_id();
    Tally tally;
    PendingRecv pending(*channel, who);
    Message message = numbered(1, counted(tally));
    CHECK_EQ(channel->try_send(sender, message), Status::ok);
    channel->close(Side::recv, who);
    CHECK_EQ(tally.destroyed.load(), 1);
    CHECK_EQ(pending.finish(), Status::retry);
    CHECK_EQ(try_receive(*channel, who), Status::closed);
}

FLAVOUR_TEST(what_ends_with_a_close_ends_outside_the_lock) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    host().probe(channel.get());
    Tally tally;
    fill(*channel, who, &tally);
    channel->close(Side::recv, who);
    CHECK_EQ(tally.destroyed.load(), tally.made.load());
    channel = make_channel(capacity);
    host().probe(channel.get());
    fill(*channel, who, &tally);
    channel->poison(reason());
    CHECK_EQ(tally.destroyed.load(), tally.made.load());
    channel = make_channel(capacity);
    host().probe(channel.get());
    fill(*channel, who, &tally);
    channel->associate(Side::recv, who);
    channel->end_interpreter(who);
    CHECK_EQ(tally.destroyed.load(), tally.made.load());
    host().probe(nullptr);
}

// --- poison
// ------------------------------------------------------------------------------------------------------

FLAVOUR_TEST(poison_meets_present_and_future_calls) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            Message message;
            CHECK_EQ(recv(*channel, who, message), Status::poisoned);
        });
    }
    until_parked(2);
    channel->poison(reason());
    for (auto& thread : threads) thread.join();
    CHECK_EQ(try_receive(*channel, who), Status::poisoned);
    Message message = numbered(5);
    CHECK_EQ(channel->try_send(new_id(), message), Status::poisoned);
    CHECK_EQ(send(*channel, who, message), Status::poisoned);
    CHECK_EQ(number_of(message), 5u);
    CHECK(channel->poison_reason() == reason());
    CHECK(channel->statistics().poisoned);
    channel->poison({});
    CHECK(channel->poison_reason() == reason());  // the first one stands
}

FLAVOUR_TEST(poison_meets_waiting_senders_and_what_is_queued) {
    if (capacity == unlimited) return;
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    Tally tally;
    fill(*channel, who, &tally);
    std::thread sending([&] {
        Message message = numbered(8, counted(tally));
        CHECK_EQ(send(*channel, who, message), Status::poisoned);
        CHECK_EQ(number_of(message), 8u);
    });
    until_parked(1);
    channel->poison(reason());
    sending.join();
    CHECK_EQ(tally.destroyed.load(), tally.made.load());
    CHECK_EQ(channel->size(), 0u);
}

FLAVOUR_TEST(poison_takes_grants_back) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    Tally tally;
    PendingRecv pending(*channel, who);
    Message message = numbered(1, counted(tally));
    CHECK_EQ(channel->try_send(who, message), Status::ok);
    channel->poison(reason());
    CHECK_EQ(tally.destroyed.load(), 1);
    CHECK_EQ(pending.finish(), Status::retry);
}

// --- the end of an interpreter
// --------------------------------------------------------------------------------------

FLAVOUR_TEST(the_end_of_an_interpreter_wakes_its_receivers_and_ends_its_side) {
    Handle<Channel> channel = make_channel(capacity);
    fake::Interpreter& ending = host().create();
    const OwnerId sender = new_id();
    std::thread receiving([&] {
        Message message;
        CHECK_EQ(recv(*channel, ending.id, message), Status::ending);
    });
    until_parked(1);
    host().unreference(ending);
    receiving.join();
    CHECK_EQ(try_number(*channel, sender, 1), Status::broken);
}

FLAVOUR_TEST(a_waiting_senders_message_ends_with_its_interpreter) {
    if (capacity == unlimited) return;
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId ending = new_id(), receiver = new_id();
    channel->associate(Side::recv, receiver);
    fill(*channel, ending);
    Tally tally;
    host().probe(channel.get());
    PendingSend pending(*channel, ending, 50, counted(tally));
    channel->end_interpreter(ending);  // the thread that sends may never run again
    host().probe(nullptr);
    CHECK_EQ(tally.destroyed.load(), 1);
    CHECK_EQ(pending.finish(), Status::ending);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(recv_number(*channel, receiver), i);
    CHECK_EQ(try_receive(*channel, receiver), Status::ended);
}

FLAVOUR_TEST(a_granted_message_goes_on_when_its_receiver_ends) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId ending = new_id(), staying = new_id(), sender = new_id();
    channel->associate(Side::recv, staying);
    PendingRecv pending(*channel, ending);
    CHECK_EQ(try_number(*channel, sender, 3), Status::ok);
    channel->end_interpreter(ending);
    CHECK_EQ(recv_number(*channel, staying), 3u);
    CHECK_EQ(pending.finish(), Status::retry);
}

FLAVOUR_TEST(an_ended_interpreter_is_not_associated_again) {
    Handle<Channel> channel = make_channel(capacity), other = make_channel(capacity);
    fake::Interpreter& ending = host().create();
    const OwnerId sender = new_id();
    other->associate(Side::send, sender);
    // Its thread was granted a message and comes back after the end: it begins again, which must not make the
    // receiving side live for ever.
    PendingRecv pending(*channel, ending.id);
    CHECK_EQ(try_number(*channel, sender, 1), Status::ok);
    host().unreference(ending);
    CHECK_EQ(pending.finish(), Status::retry);
    Message message;
    CHECK_EQ(recv(*channel, ending.id, message), Status::ending);
    CHECK(channel->statistics().recv_over);
    CHECK_EQ(try_number(*channel, sender, 1), Status::broken);
    // Nor does it get into channels that it never used, not even by being handed an end.
    CHECK_EQ(try_receive(*other, ending.id), Status::ending);
    CHECK_EQ(try_number(*other, ending.id, 1), Status::ending);
    other->associate(Side::recv, ending.id);
    other->associate(Side::send, ending.id);
    CHECK(other->statistics().receivers.empty());
    CHECK_EQ(other->statistics().senders, std::vector<OwnerId>{sender});
    // And in one that was made after it.
    CHECK_EQ(try_receive(*make_channel(capacity), ending.id), Status::ending);
}

FLAVOUR_TEST(a_call_of_an_ended_interpreter_leaves_nothing_in_line) {
    if (capacity == unlimited) return;
    Handle<Channel> channel = make_channel(capacity);
    fake::Interpreter& ending = host().create();
    const OwnerId receiver = new_id(), sender = new_id();
    fill(*channel, sender);
    host().unreference(ending);
    Tally tally;
    Waiter waiter(ending.id, "send", channel->id(), Side::send);
    SendEntry entry;
    entry.waiter = &waiter;
    entry.message = numbered(9, counted(tally));
    CHECK_EQ(channel->enlist_send(entry), Status::ending);
    CHECK(entry.queue == nullptr);
    CHECK_EQ(channel->statistics().waiting_senders, 0u);
    CHECK_EQ(number_of(entry.message), 9u);
    RecvEntry wanting;
    Waiter wanter(ending.id, "recv", channel->id(), Side::recv);
    wanting.waiter = &wanter;
    Message message;
    CHECK_EQ(channel->enlist_recv(wanting, message), Status::ending);
    CHECK(wanting.queue == nullptr);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(recv_number(*channel, receiver), i);
}

// --- grants
// --------------------------------------------------------------------------------------------------------

FLAVOUR_TEST(a_withdrawn_grant_goes_to_the_next_in_line) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    PendingRecv first(*channel, who), second(*channel, who);
    CHECK_EQ(try_number(*channel, who, 1), Status::ok);
    CHECK(first.waiter.settled() && !second.waiter.settled());
    channel->withdraw(first.entry);
    CHECK(second.waiter.settled());
    CHECK_EQ(second.finish(), Status::ok);
    CHECK_EQ(number_of(second.message), 1u);
}

FLAVOUR_TEST(a_withdrawn_grant_without_anybody_in_line_is_free_for_all) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    PendingRecv pending(*channel, who);
    CHECK_EQ(try_number(*channel, who, 1), Status::ok);
    CHECK_EQ(try_receive(*channel, who), Status::empty);
    channel->withdraw(pending.entry);
    CHECK_EQ(recv_number(*channel, who), 1u);
}

FLAVOUR_TEST(a_timeout_that_comes_with_the_grant_takes_the_message) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId who = new_id();
    PendingRecv pending(*channel, who);
    CHECK_EQ(pending.waiter.wait(Deadline::after_ns(0), nullptr), Status::timeout);
    CHECK_EQ(try_number(*channel, who, 1), Status::ok);
    CHECK_EQ(pending.finish(), Status::ok);
    CHECK_EQ(number_of(pending.message), 1u);
}

FLAVOUR_TEST(senders_that_left_end_the_channel_once_granted_messages_are_taken) {
    Handle<Channel> channel = make_channel(capacity);
    const OwnerId sender = new_id(), receiver = new_id();
    PendingRecv first(*channel, receiver), second(*channel, receiver);
    CHECK_EQ(try_number(*channel, sender, 1), Status::ok);
    channel->close(Side::send, sender);
    CHECK(!second.waiter.settled());  // the grant may yet come to it
    CHECK_EQ(first.finish(), Status::ok);
    CHECK_EQ(second.finish(), Status::ended);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
