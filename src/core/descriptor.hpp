// A file descriptor on its way: a duplicate that belongs to its message, or to who is about to take it out.
// The last holder closes it. A forked child has copies of all of them, in messages that nobody there
// receives: they are closed before fork() returns in it.
#pragma once

#include <cstddef>
#include <mutex>

#include "message.hpp"

namespace memchannel {

class Descriptor final : public Transferable {
   public:
    // Of `fd`, closed by exec; empty, with errno set, if that fails. Throws std::bad_alloc.
    static Handle<Descriptor> duplicate(int fd);
    Handle<Descriptor> duplicate() const { return duplicate(fd_); }
    // The descriptor, which is the caller's from here on; -1: it was released before. For one holder only:
    // others have nothing then.
    int release() noexcept;

    void packed(Side) noexcept override {}
    void unpacked(Side) noexcept override {}

   private:
    friend class DescriptorTable;
    Descriptor() noexcept = default;
    ~Descriptor() override;

    // All: DescriptorTable's mutex, but for reads by holders.
    int fd_ = -1;
    Descriptor* prev_ = nullptr;
    Descriptor* next_ = nullptr;
};

// All that are on their way.
class DescriptorTable {
   public:
    void enter(Descriptor& one, int fd) noexcept;
    int leave(Descriptor& one) noexcept;  // its descriptor
    std::size_t size() const noexcept;

    // Around fork(): the list is whole in the child.
    void lock() noexcept { mutex_.lock(); }
    void unlock() noexcept { mutex_.unlock(); }
    // In the child, where the parent's table stays locked.
    void close_all_in_child() noexcept;

   private:
    mutable std::mutex mutex_;
    Descriptor* first_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace memchannel
