#include "message_span.hpp"

#include "registry.hpp"

namespace memchannel {

namespace {

TraceEvent event_of(Traced kind, std::int64_t begin_ns, OwnerId who, std::uint64_t channel) noexcept {
    return {.begin_ns = begin_ns,
            .end_ns = monotonic_ns(),
            .interpreter = who,
            .object = channel,
            .count = 0,
            .kind = kind,
            .side = kind == Traced::send ? Side::send : Side::recv};
}

}  // namespace

void MessageSpan::number(Message* first, MessageQueue* rest) noexcept {
    begin_ns_ = monotonic_ns();
    count_ = (first ? 1 : 0) + (rest ? rest->size() : 0);
    nbytes_ = (first ? first->nbytes() : 0) + (rest ? rest->nbytes() : 0);
    id_ = first ? first->trace_id() : rest ? rest->trace_id() : 0;
    if (id_ || !count_) return;
    id_ = registry().recorder.number(count_);
    if (first) first->set_trace_id(id_);
    if (rest) rest->set_trace_ids(first ? id_ + 1 : id_);
}

void MessageSpan::record_sent(OwnerId who, std::uint64_t channel, const Message& first,
                              const MessageQueue& rest) const noexcept {
    const std::size_t unsent = (first ? 1 : 0) + rest.size();
    if (unsent >= count_) return;
    TraceEvent event = event_of(Traced::send, begin_ns_, who, channel);
    event.id = id_;
    event.amount = nbytes_ - (first ? first.nbytes() : 0) - rest.nbytes();
    if (in_loop_) event.end_ns = begin_ns_;  // it may have been received at once
    event.count = static_cast<std::uint32_t>(count_ - unsent);
    registry().recorder.record(event);
}

// One event for each stretch of messages that were sent one after the other.
void MessageSpan::record_received(OwnerId who, std::uint64_t channel, const Message& first,
                                  std::span<const Message> more) const noexcept {
    TraceEvent event = event_of(Traced::recv, begin_ns_, who, channel);
    if (in_loop_) event.begin_ns = event.end_ns;
    const auto add = [&](const Message& message) {
        const std::uint64_t id = message.trace_id();
        if (event.count && id != (event.id ? event.id + event.count : 0)) {
            registry().recorder.record(event);
            event.count = 0;
            event.amount = 0;
        }
        if (!event.count) event.id = id;
        ++event.count;
        event.amount += message.nbytes();
    };
    if (first) add(first);
    for (const Message& message : more) add(message);
    if (event.count) registry().recorder.record(event);
}

}  // namespace memchannel
