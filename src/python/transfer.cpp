#include "transfer.hpp"

namespace memchannel {

namespace {

Status park_send(Channel& channel, SendEntry& entry, Deadline deadline) {
    Status status = channel.enlist_send(entry);
    if (status != Status::parked) return status;
    entry.waiter->limit(deadline);
    status = wait_settled(*entry.waiter, deadline, &channel.spin(Side::send));
    const Status outcome = channel.finish_send(entry);
    if (status != Status::interrupted) return outcome;
    // A message that went out meanwhile is out: say so, and interrupt a little later.
    return outcome == Status::ok && postpone_interrupt() ? Status::ok : Status::interrupted;
}

Status park_recv(Channel& channel, RecvEntry& entry, Message& message, Deadline deadline) {
    struct {  // behind one reference, which std::function holds without allocating
        Channel& channel;
        RecvEntry& entry;
        bool in_line;
    } place{channel, entry, false};
    const auto wait = [&](Spin* spin, const WaitSteps& steps = {}) {
        const Status status = wait_settled(*entry.waiter, deadline, spin, steps);
        if (status == Status::interrupted) channel.withdraw(entry);  // what was meant for it goes to the next
        return status;
    };
    entry.span.begin_recv();  // the waits lie in it
    entry.waiter->limit(deadline);
    const bool looks = channel.shows_messages();
    if (looks) {
        const Status status = wait(
            nullptr, {.before =
                          [&place] {
                              place.in_line = place.channel.look_and_line_up(place.entry) == Status::parked;
                              return !place.in_line;
                          },
                      .after = {}});
        if (status == Status::interrupted) return status;
        if (place.in_line) return channel.finish_recv(entry, message);
    }
    Status status = channel.enlist_recv(entry, message);
    if (status != Status::parked) return status;
    status = wait(looks ? nullptr : &channel.spin(Side::recv));
    return status == Status::interrupted ? status : channel.finish_recv(entry, message);
}

// What can be had at once or a microsecond later; `empty` if that is nothing.
template <class Take>
Status take_soon(Channel& channel, const Patience& patience, const Take& take) {
    if (!patience.nowait && !channel.may_have_message()) {
        if (!channel.glance()) return Status::empty;
        if (signal_raises()) return Status::interrupted;
    }
    return take();
}

// Nobody else knows of these messages: they are as if they had not been received.
void put_back(Channel& channel, std::span<Message> messages) {
    const ErrorScope errors;
    channel.put_back(messages);
}

// An interrupt, an exit, or a lack of memory: nothing is wrong with the message.
bool can_be_tried_again() noexcept {
    return !PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError);
}

}  // namespace

[[gnu::hot]] Status send_message(OwnerId self, Channel& channel, Message& message, const Patience& patience) {
    Status status = channel.try_send(self, message);
    if (status != Status::full && status != Status::retry) return status;
    if (patience.nowait) return Status::timeout;
    do {
        Waiter waiter(self, "send", channel.id(), Side::send);
        SendEntry entry;
        entry.waiter = &waiter;
        entry.message = std::move(message);
        status = park_send(channel, entry, patience.deadline);
        message = std::move(entry.message);  // empty if it was sent
    } while (status == Status::retry);
    return status;
}

[[gnu::hot]] Status recv_message(OwnerId self, Channel& channel, Message& message, const Patience& patience) {
    Status status = take_soon(channel, patience, [&] { return channel.try_recv(self, message); });
    if (status != Status::empty) return status;
    if (patience.nowait) return Status::timeout;
    do {
        Waiter waiter(self, "recv", channel.id(), Side::recv);
        RecvEntry entry;
        entry.waiter = &waiter;
        status = park_recv(channel, entry, message, patience.deadline);
    } while (status == Status::retry);
    return status;
}

Status send_messages(OwnerId self, Channel& channel, MessageQueue& messages, const Patience& patience) {
    Status status = channel.try_send_many(self, messages);
    if (status != Status::full) return status;
    if (patience.nowait) return Status::timeout;
    do {
        Waiter waiter(self, "send", channel.id(), Side::send);
        SendEntry entry;
        entry.waiter = &waiter;
        entry.message = messages.pop();
        entry.rest.swap(messages);
        status = park_send(channel, entry, patience.deadline);
        entry.rest.swap(messages);
        if (status != Status::ok && entry.message) messages.push_front(std::move(entry.message));
    } while (status == Status::retry);
    return status;
}

Status recv_messages(OwnerId self, Channel& channel, std::size_t limit, std::vector<Message>& messages,
                     const Patience& patience) {
    messages.reserve(1);  // the core takes fewer where memory lacks, but then not none
    Status status =
        take_soon(channel, patience, [&] { return channel.try_recv_many(self, limit, messages); });
    if (status != Status::empty) return status;
    if (patience.nowait) return Status::timeout;
    do {
        Waiter waiter(self, "recv", channel.id(), Side::recv);
        RecvEntry entry;
        entry.waiter = &waiter;
        entry.limit = limit;
        Message first;
        status = park_recv(channel, entry, first, patience.deadline);
        if (status != Status::ok) continue;
        messages.push_back(std::move(first));
        for (Message& message : entry.more) messages.push_back(std::move(message));
    } while (status == Status::retry);
    return status;
}

[[gnu::hot]] Ref deliver(ModuleState& state, Channel& channel, Message message, const RecvOptions& options) {
    // A second holder makes the decoder leave a message whole that it would take apart.
    Message other = is_left_whole(message) ? Message() : message.share();
    const auto keep = [&] {
        other.reset();
        put_back(channel, {&message, 1});
    };
    try {
        return decode(state, message, options);
    } catch (const Undeliverable&) {
        keep();
        throw;
    } catch (const PythonError&) {
        if (can_be_tried_again()) keep();
        throw;
    } catch (const std::bad_alloc&) {
        keep();
        throw;
    }
}

Ref deliver_all(ModuleState& state, Channel& channel, std::vector<Message> messages,
                const RecvOptions& options) {
    Ref list;
    std::size_t made = 0;
    const auto put_back_rest = [&] { put_back(channel, std::span(messages).subspan(made)); };
    try {
        list = Ref::steal(PyList_New(0));
        if (!list) throw PythonError();
        for (; made < messages.size(); ++made) {
            const Message shared = messages[made].share();  // all of them may have to go back
            Ref object = decode(state, shared, options);
            if (!object || PyList_Append(list.get(), object.get()) < 0) throw PythonError();
        }
        return list;
    } catch (const Undeliverable&) {
        put_back_rest();
        if (made == 0) throw;
        PyErr_Clear();
        return list;
    } catch (const PythonError&) {
        const bool again = can_be_tried_again(), raise = again || made == 0;
        if (again) made = 0;
        else if (made == 0) made = 1;  // the one that cannot be made is gone
        put_back_rest();
        if (raise) throw;
        PyErr_Clear();
        return list;
    } catch (const std::bad_alloc&) {
        put_back(channel, messages);
        throw;
    }
}

}  // namespace memchannel
