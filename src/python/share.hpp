// What an object of a registered type is shared by, and how its sender learns that all of it came back.
#pragma once

#include <memory>
#include <vector>

#include "state.hpp"

namespace memchannel {

// Of the objects in one message. A ticket is held by the leases of an object's buffers, and by the call that
// sends them until its outcome is known. When the last of these lets go of it, on_returned is called, but
// only if the message was sent.
class Tickets {
   public:
    // Throws std::bad_alloc.
    void add(PyObject* ticket) {
        if (!tickets_) tickets_ = std::make_unique<std::vector<Ref>>();
        tickets_->push_back(Ref::borrow(ticket));
    }
    bool empty() const noexcept { return !tickets_; }
    // The message is out. May run Python: all of it may be back already.
    void sent() noexcept {
        if (!empty()) tell();
    }

   private:
    void tell() noexcept;

    std::unique_ptr<std::vector<Ref>> tickets_;  // few messages have any
};

// A buffer of a registered object.
struct Share {
    PyObject* buffer = nullptr;  // borrowed
    PyObject* ticket = nullptr;  // borrowed; nullptr: nobody wants to know
    explicit operator bool() const noexcept { return buffer != nullptr; }
};
Share share_of(PyObject* object) noexcept;

bool add_share_types(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
