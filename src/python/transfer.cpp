#include "transfer.hpp"

namespace memchannel {

namespace {

Status park_send(Channel& channel, SendEntry& entry, Deadline deadline) {
    Status status = channel.enlist_send(entry);
    if (status != Status::parked) return status;
    status = wait_settled(*entry.waiter, deadline, &channel.spin(Side::send));
    const Status outcome = channel.finish_send(entry);
    if (status != Status::interrupted) return outcome;
    // A message that went out meanwhile is out: say so, and interrupt a little later.
    return outcome == Status::ok && postpone_interrupt() ? Status::ok : Status::interrupted;
}

}  // namespace

Status send_message(Channel& channel, Message& message, const Patience& patience) {
    const OwnerId self = current_interpreter();
    Status status = channel.try_send(self, message);
    if (status != Status::full && status != Status::retry) return status;
    if (patience.nowait) return Status::timeout;
    do {
        Waiter waiter(self, "send", channel.id());
        SendEntry entry;
        entry.waiter = &waiter;
        entry.message = std::move(message);
        status = park_send(channel, entry, patience.deadline);
        if (status != Status::ok) message = std::move(entry.message);
    } while (status == Status::retry);
    return status;
}

Status recv_message(Channel& channel, Message& message, const Patience& patience) {
    const OwnerId self = current_interpreter();
    Status status = channel.try_recv(self, message);
    if (status != Status::empty) return status;
    if (patience.nowait) return Status::timeout;
    do {
        Waiter waiter(self, "recv", channel.id());
        RecvEntry entry;
        entry.waiter = &waiter;
        status = channel.enlist_recv(entry, message);
        if (status != Status::parked) continue;
        status = wait_settled(waiter, patience.deadline, &channel.spin(Side::recv));
        if (status == Status::interrupted) {
            channel.withdraw(entry);  // a message that was meant for this call goes to the next receiver
            return status;
        }
        status = channel.finish_recv(entry, message);
    } while (status == Status::retry);
    return status;
}

}  // namespace memchannel
