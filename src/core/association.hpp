// Which interpreters are associated with one side of a channel (PEP 554's term), and whether the side is
// over. Not thread-safe: the channel's lock guards it.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "lease.hpp"

namespace memchannel {

class Association {
   public:
    // Associates the interpreter; false: it closed this side, or the side was over without it.
    bool join(OwnerId interpreter);
    bool joined(OwnerId interpreter) const noexcept {
        return interpreter == newest_ || is_member(interpreter);
    }
    bool closed_by(OwnerId interpreter) const noexcept;
    // close(): leaves for good. Returns whether the interpreter was associated.
    bool close(OwnerId interpreter);
    // The interpreter itself is gone.
    void end(OwnerId interpreter) noexcept;
    // An end of this side travels in a message that nobody received yet. The receiving side of a broadcast
    // channel counts its subscriptions in this way.
    void packed() noexcept { ++packed_; }
    void unpacked() noexcept;
    std::size_t on_the_way() const noexcept { return packed_; }
    bool vacant() const noexcept { return associated_ == 0 && packed_ == 0; }
    // Somebody left who was not associated by name.
    void left() noexcept { left_ = true; }
    // Somebody left and nobody remains: for good.
    bool over() const noexcept { return over_; }
    std::vector<OwnerId> interpreters() const;

   private:
    struct Member {
        OwnerId interpreter;
        bool closed;
    };
    static constexpr OwnerId nobody = std::numeric_limits<OwnerId>::min();

    bool is_member(OwnerId interpreter) const noexcept;
    Member* find(OwnerId interpreter) noexcept;
    const Member* find(OwnerId interpreter) const noexcept;
    void decide() noexcept { over_ = over_ || (left_ && associated_ == 0 && packed_ == 0); }

    std::vector<Member> members_;
    OwnerId newest_ = nobody;  // who joined last, if it has not left since: mostly the only one
    std::size_t associated_ = 0;
    std::size_t packed_ = 0;
    bool left_ = false;
    bool over_ = false;
};

}  // namespace memchannel
