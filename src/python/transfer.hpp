// Blocking sends and receives of Python objects: the core's halves with a wait between them.
#pragma once

#include "codecs.hpp"
#include "core/channel.hpp"
#include "wait.hpp"

namespace memchannel {

struct Patience {
    Deadline deadline = Deadline::never();
    bool nowait = false;
};

// Outcome of the core; interrupted: an exception is set. The message is moved from only if sent.
Status send_message(Channel& channel, Message& message, const Patience& patience);
Status recv_message(Channel& channel, Message& message, const Patience& patience);

}  // namespace memchannel
