// What locks, semaphores and their like have in common: an id, a home in the process's table, a place in
// messages, and the end of interpreters that use them.
//
// Each has one mutex, held for a few instructions and never while a GIL is taken. As with channels, a
// blocking call is two halves with a wait between them: enlist() tries and gets in line, finish() comes for
// what the wait was for, attached to the interpreter again, so that nothing belongs to a thread that CPython
// leaves hanging in the take of its GIL.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>

#include "id_table.hpp"
#include "message.hpp"
#include "mutex.hpp"
#include "owner.hpp"

namespace memchannel {

enum class PrimitiveKind : std::uint8_t {
    lock,
    recursive_lock,
    semaphore,
    bounded_semaphore,
    event,
    condition,
    barrier,
    counter,
};

// A thread. The kernel uses its ids again, so that a lock's holder that is gone could come back as another.
struct ThreadId {
    std::uint64_t number = 0;  // never used again in this process
    pid_t native = 0;
};
ThreadId this_thread() noexcept;

// Who calls: a thread, in one of the interpreters that it may be in at a time.
struct Caller {
    const Owner& owner;
    ThreadId thread;
};

class Primitive : public Transferable {
   public:
    std::uint64_t id() const noexcept { return id_; }
    PrimitiveKind kind() const noexcept { return kind_; }
    bool of_this_process() const noexcept;  // false in a forked child
    // Nobody of the interpreter waits any more, nor holds anything.
    virtual void end_interpreter(OwnerId who) noexcept = 0;

    void packed(Side) noexcept override {}
    void unpacked(Side) noexcept override {}

   protected:
    using Guard = BriefLock;

    explicit Primitive(PrimitiveKind kind);
    void last_drop() noexcept override;

    mutable BriefMutex mutex_;

   private:
    const std::uint64_t id_;
    const unsigned generation_;
    const PrimitiveKind kind_;
};

class PrimitiveTable : public IdTable<Primitive> {
   public:
    void end_interpreter(Owner& who);
};

// Into the table once it is complete: the end of an interpreter walks through all that is there.
void publish(Primitive& made);

template <class T, class... Arguments>
Handle<T> make_primitive(Arguments&&... arguments) {
    auto made = Handle<T>::adopt(new T(std::forward<Arguments>(arguments)...));
    publish(*made);
    return made;
}

}  // namespace memchannel
