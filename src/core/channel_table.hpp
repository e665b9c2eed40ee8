// Every channel of the process, by id, without keeping it alive; and the collection of those that only other
// channels' queues can reach.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "channel.hpp"

namespace memchannel {

class ChannelTable {
   public:
    std::uint64_t next_id() noexcept;
    void add(Channel& channel);
    void remove(Channel& channel) noexcept;
    Handle<Channel> find(std::uint64_t id) const;
    std::vector<Handle<Channel>> all() const;  // by id
    std::size_t size() const noexcept;
    void end_interpreter(OwnerId who);
    bool has_ended(OwnerId who) const noexcept;  // may be called under a channel's lock
    // Empties channels that only queued ends can reach (in cycles, or from such cycles), so that they go
    // away. Returns how many. Quick when no end is queued anywhere.
    std::size_t collect();

   private:
    friend class Tracer;
    mutable std::mutex mutex_;
    std::unordered_map<std::uint64_t, Channel*> channels_;
    std::uint64_t last_id_ = 0;
    mutable std::mutex ended_mutex_;
    std::unordered_set<OwnerId> ended_;  // ended_mutex_; interpreter ids are never reused
};

}  // namespace memchannel
