// Calls that interpreters want made in others, soon: queued here until the other interpreter looks.
#pragma once

#include <atomic>
#include <map>
#include <mutex>

#include "lease.hpp"
#include "message.hpp"

namespace memchannel {

class CallbackTable {
   public:
    void push(OwnerId interpreter, Message&& call);
    // The oldest call for the interpreter; an empty message if there is none.
    Message pop(OwnerId interpreter) noexcept;
    bool any(OwnerId interpreter) const noexcept;
    // Forgets the interpreter's calls. Their leases end here, which may switch interpreters.
    void clear(OwnerId interpreter) noexcept;

   private:
    std::atomic<std::size_t> total_{0};  // looked at without the lock: mostly there is nothing
    mutable std::mutex mutex_;
    std::map<OwnerId, MessageQueue> queues_;  // mutex_
};

}  // namespace memchannel
