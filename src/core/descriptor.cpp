#include "descriptor.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "registry.hpp"

namespace memchannel {

Handle<Descriptor> Descriptor::duplicate(int fd) {
    auto made = Handle<Descriptor>::adopt(new Descriptor);
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        const int error = errno;
        made.reset();
        errno = error;
        return made;
    }
    registry().descriptors.enter(*made, copy);
    return made;
}

int Descriptor::release() noexcept { return fd_ < 0 ? -1 : registry().descriptors.leave(*this); }

// A fork between the two steps leaves a copy open in the child, as it does with every descriptor that a
// thread is about to close; the other order would close what another thread has opened meanwhile.
Descriptor::~Descriptor() {
    const int fd = release();
    if (fd >= 0) close(fd);
}

void DescriptorTable::enter(Descriptor& one, int fd) noexcept {
    const std::lock_guard guard(mutex_);
    one.fd_ = fd;
    one.next_ = first_;
    if (first_) first_->prev_ = &one;
    first_ = &one;
    ++size_;
}

int DescriptorTable::leave(Descriptor& one) noexcept {
    const std::lock_guard guard(mutex_);
    (one.prev_ ? one.prev_->next_ : first_) = one.next_;
    if (one.next_) one.next_->prev_ = one.prev_;
    one.prev_ = one.next_ = nullptr;
    --size_;
    return std::exchange(one.fd_, -1);
}

std::size_t DescriptorTable::size() const noexcept {
    const std::lock_guard guard(mutex_);
    return size_;
}

void DescriptorTable::close_all_in_child() noexcept {
    for (Descriptor* one = first_; one; one = one->next_) close(std::exchange(one->fd_, -1));
}

}  // namespace memchannel
