// A flag that calls can wait for.
#pragma once

#include "primitive.hpp"
#include "spin.hpp"
#include "waiter.hpp"

namespace memchannel {

class Event final : public Primitive {
   public:
    Event() : Primitive(PrimitiveKind::event) {}

    void set() noexcept;
    void clear() noexcept;
    bool is_set() const noexcept;

    Status enlist(Entry& entry) noexcept;  // ok: it is set; parked
    // ok: it was set while the call waited, whatever it is now; timeout: not settled; ending.
    Status finish(Entry& entry) noexcept;
    Spin& spin() noexcept { return spin_; }

    void end_interpreter(OwnerId who) noexcept override;

   private:
    Spin spin_;
    // All below: mutex_.
    bool set_ = false;
    EntryQueue waiting_;
};

}  // namespace memchannel
