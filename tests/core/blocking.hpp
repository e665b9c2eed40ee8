// Messages with a number in them, and blocking calls: the core's halves with a wait between them, as the
// bindings put them together.
#pragma once

#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "core/select.hpp"
#include "fake_host.hpp"

namespace fake {

inline Message numbered(std::uint64_t number, LeaseRef lease = {}) {
    Message message = Message::make(1, sizeof number, lease ? 1 : 0);
    std::memcpy(message.header().data(), &number, sizeof number);
    if (lease) message.leases()[0] = lease.release();
    return message;
}

inline std::uint64_t number_of(const Message& message) {
    CHECK(message);
    std::uint64_t number;
    CHECK_EQ(message.header().size(), sizeof number);
    std::memcpy(&number, message.header().data(), sizeof number);
    return number;
}

inline Deadline in_ms(std::int64_t ms) { return Deadline::after_ns(ms * 1'000'000); }

inline Handle<Channel> make_channel(std::size_t capacity = unlimited) {
    static_cast<void>(host());
    ChannelTraits traits;
    traits.capacity = capacity;
    return Channel::make(std::move(traits));
}

// The message is moved from only if sent.
inline Status send(Channel& channel, OwnerId who, Message& message, Deadline deadline = Deadline::never()) {
    Status status = channel.try_send(who, message);
    if (status != Status::full) return status;
    do {
        Waiter waiter(who, "send", channel.id(), Side::send);
        SendEntry entry;
        entry.waiter = &waiter;
        entry.message = std::move(message);
        status = channel.enlist_send(entry);
        if (status == Status::parked) {
            static_cast<void>(waiter.wait(deadline, &channel.spin(Side::send)));
            status = channel.finish_send(entry);
        }
        if (status != Status::ok) message = std::move(entry.message);
    } while (status == Status::retry);
    return status;
}

inline Status recv(Channel& channel, OwnerId who, Message& message, Deadline deadline = Deadline::never()) {
    Status status =
        channel.may_have_message() || channel.glance() ? channel.try_recv(who, message) : Status::empty;
    if (status != Status::empty) return status;
    do {
        Waiter waiter(who, "recv", channel.id(), Side::recv);
        RecvEntry entry;
        entry.waiter = &waiter;
        const bool looks = channel.shows_messages();
        status = looks ? channel.look_and_line_up(entry) : Status::retry;
        if (status != Status::parked) status = channel.enlist_recv(entry, message);
        if (status == Status::parked) {
            static_cast<void>(waiter.wait(deadline, looks ? nullptr : &channel.spin(Side::recv)));
            status = channel.finish_recv(entry, message);
        }
    } while (status == Status::retry);
    return status;
}

inline Status send_number(Channel& channel, OwnerId who, std::uint64_t number,
                          Deadline deadline = Deadline::never()) {
    Message message = numbered(number);
    return send(channel, who, message, deadline);
}

// Receives a number; any other outcome than ok fails.
inline std::uint64_t recv_number(Channel& channel, OwnerId who) {
    Message message;
    CHECK_EQ(recv(channel, who, message), Status::ok);
    return number_of(message);
}

inline Select::Case recv_case(const Handle<Channel>& channel) { return {channel, Side::recv, Message()}; }
inline Select::Case send_case(const Handle<Channel>& channel, std::uint64_t number) {
    return {channel, Side::send, numbered(number)};
}

inline Status select(OwnerId who, std::span<Select::Case> cases, std::uint32_t& chosen,
                     std::uint64_t seed = 1, Deadline deadline = Deadline::never()) {
    Select call(who, cases, seed);
    Status status = call.try_now(chosen);
    if (status != Status::empty) return status;
    for (;;) {
        status = call.enlist(chosen);
        if (status == Status::parked) {
            static_cast<void>(call.waiter().wait(deadline, nullptr));
            status = call.finish(chosen);
        }
        if (status != Status::retry) return status;
        call.begin_again();
    }
}

// Waits for a condition that another thread brings about.
template <class Condition>
void eventually(Condition condition) {
    while (!condition()) std::this_thread::yield();
}

inline void until_waiting(const Channel& channel, std::size_t receivers, std::size_t senders) {
    eventually([&] {
        const ChannelStatistics now = channel.statistics();
        return now.waiting_receivers == receivers && now.waiting_senders == senders;
    });
}

// Waits until that many calls have gone to sleep, in whatever object.
inline void until_parked(std::size_t calls) {
    eventually([&] { return registry().waiters.size() == calls; });
}

}  // namespace fake
