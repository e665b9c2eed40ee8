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
    Status status = channel.enlist_recv(entry, message);
    if (status != Status::parked) return status;
    entry.waiter->limit(deadline);
    status = wait_settled(*entry.waiter, deadline, &channel.spin(Side::recv));
    if (status != Status::interrupted) return channel.finish_recv(entry, message);
    channel.withdraw(entry);  // a message that was meant for this call goes to the next receiver
    return status;
}

// Nobody else knows of these messages: they are as if they had not been received.
void put_back(Channel& channel, std::vector<Message>& messages) {
    const ErrorScope errors;
    channel.put_back(messages);
    messages.clear();
}

// An interrupt, or an exit: nothing is wrong with the message.
bool is_no_exception() noexcept { return !PyErr_ExceptionMatches(PyExc_Exception); }

}  // namespace

Status send_message(Channel& channel, Message& message, const Patience& patience) {
    const OwnerId self = current_interpreter();
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

Status recv_message(Channel& channel, Message& message, const Patience& patience) {
    const OwnerId self = current_interpreter();
    Status status = channel.try_recv(self, message);
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

Status send_messages(Channel& channel, MessageQueue& messages, const Patience& patience) {
    const OwnerId self = current_interpreter();
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

Status recv_messages(Channel& channel, std::size_t limit, std::vector<Message>& messages,
                     const Patience& patience) {
    const OwnerId self = current_interpreter();
    Status status = channel.try_recv_many(self, limit, messages);
    if (status != Status::empty) return status;
    if (patience.nowait) return Status::timeout;
    messages.reserve(1);
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

Ref deliver(ModuleState& state, Channel& channel, Message message, const RecvOptions& options) {
    // Only what runs Python code can be interrupted, and is worth a second holder.
    if (!runs_python(state, message, options)) return decode(state, message, options);
    std::vector<Message> kept;
    kept.push_back(message.share());
    try {
        return decode(state, message, options);
    } catch (const Undeliverable&) {
        message.reset();
        put_back(channel, kept);
        throw;
    } catch (const PythonError&) {
        message.reset();
        if (is_no_exception()) put_back(channel, kept);
        throw;
    } catch (const std::bad_alloc&) {
        message.reset();
        put_back(channel, kept);
        throw;
    }
}

Ref deliver_all(ModuleState& state, Channel& channel, std::vector<Message> messages,
                const RecvOptions& options) {
    Ref list = Ref::steal(PyList_New(0));
    if (!list) throw PythonError();
    std::size_t made = 0;
    const auto put_back_rest = [&] {
        messages.erase(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(made));
        put_back(channel, messages);
    };
    try {
        for (; made < messages.size(); ++made) {
            // A second holder makes the decoder leave the message whole.
            const Message shared = messages[made].share();
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
        if (is_no_exception()) made = 0;
        else if (made == 0) messages.erase(messages.begin());
        const bool raise = made == 0;
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
