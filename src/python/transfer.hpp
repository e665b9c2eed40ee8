// Blocking sends and receives of Python objects: the core's halves with a wait between them.
#pragma once

#include <vector>

#include "codecs.hpp"
#include "core/channel.hpp"
#include "wait.hpp"

namespace memchannel {

struct Patience {
    Deadline deadline = Deadline::never();
    bool nowait = false;
};

// By the interpreter that the thread is attached to. Outcome of the core; interrupted: an exception is set.
// The message is moved from only if sent.
Status send_message(OwnerId self, Channel& channel, Message& message, const Patience& patience);
Status recv_message(OwnerId self, Channel& channel, Message& message, const Patience& patience);

// The same for several. What was not sent stays in `messages`; receiving waits for the first one only.
Status send_messages(OwnerId self, Channel& channel, MessageQueue& messages, const Patience& patience);
Status recv_messages(OwnerId self, Channel& channel, std::size_t limit, std::vector<Message>& messages,
                     const Patience& patience);

// The received message as an object. Throws as decode() does; if what was raised is no Exception (an
// interrupt), memory ran out, or the message is Undeliverable here, it is first in the channel again.
Ref deliver(ModuleState& state, Channel& channel, Message message, const RecvOptions& options);
// A list of as many as can be made, the rest being back in the channel. Throws if that is none, or
// interrupted.
Ref deliver_all(ModuleState& state, Channel& channel, std::vector<Message> messages,
                const RecvOptions& options);

}  // namespace memchannel
