// Every channel of the process, by id, without keeping it alive; and the collection of those that only other
// channels' queues can reach.
#pragma once

#include <mutex>
#include <unordered_set>

#include "channel.hpp"
#include "id_table.hpp"

namespace memchannel {

class ChannelTable : public IdTable<Channel> {
   public:
    void end_interpreter(OwnerId who);
    bool has_ended(OwnerId who) const noexcept;  // may be called under a channel's lock
    // Empties channels that only queued ends can reach (in cycles, or from such cycles), so that they go
    // away. Returns how many. Quick when no end is queued anywhere.
    std::size_t collect();

   private:
    friend class Tracer;
    mutable std::mutex ended_mutex_;
    std::unordered_set<OwnerId> ended_;  // ended_mutex_; interpreter ids are never reused
};

}  // namespace memchannel
