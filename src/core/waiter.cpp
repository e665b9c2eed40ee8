#include "waiter.hpp"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "notifier.hpp"
#include "registry.hpp"

namespace memchannel {

Waiter::Waiter(OwnerId interpreter, const char* verb, std::uint64_t object, Side side)
    : interpreter_(interpreter), verb_(verb), target_{object, side}, targets_(&target_, 1) {
    sem_init(&semaphore_, 0, 0);
}

Waiter::~Waiter() {
    begin_again();
    if (notifier_) notifier_->forget(*this);  // after the list has let go: it settles too
    sem_destroy(&semaphore_);
}

void Waiter::begin_again() noexcept {
    if (listed_) registry().waiters.remove(*this);  // before the store: the list settles what stands in it
    listed_ = false;
    state_.store(pending, std::memory_order_relaxed);
}

void Waiter::enlist() noexcept {
    if (listed_) return;
    since_ns_ = monotonic_ns();
    thread_ = static_cast<pid_t>(syscall(SYS_gettid));
    listed_ = true;
    registry().waiters.add(*this);
}

Waiting Waiter::about() const {
    return {interpreter_, thread_, verb_, {targets_.begin(), targets_.end()}, since_ns_, timed_};
}

bool Waiter::settle(Status status, std::uint32_t index) noexcept {
    const std::uint64_t settled =
        done | static_cast<std::uint64_t>(status) << 8 | static_cast<std::uint64_t>(index) << 32;
    std::uint64_t seen = state_.load(std::memory_order_relaxed);
    while (phase(seen) != done) {
        if (state_.compare_exchange_weak(seen, settled, std::memory_order_acq_rel)) {
            if (phase(seen) != parked) return true;
            detail::note_wake();
            if (notifier_) notifier_->tell(*this);
            else sem_post(&semaphore_);
            return true;
        }
    }
    return false;
}

Settlement Waiter::settlement() const noexcept {
    const std::uint64_t state = state_.load(std::memory_order_acquire);
    if (phase(state) != done) return {};
    return {static_cast<Status>((state >> 8) & 0xff), static_cast<std::uint32_t>(state >> 32)};
}

Status Waiter::wait(Deadline deadline, Spin* spin) noexcept {
    const auto is_settled = [this] { return settled(); };
    if (spin ? spin->until(is_settled) : is_settled()) return Status::ok;
    enlist();
    return park(deadline);
}

bool Waiter::look(Spin& spin) noexcept {
    return spin.run([this] { return settled(); });
}

bool Waiter::nudge() noexcept {
    if (notifier_) return false;  // it has no thread that could look around
    // Sequentially consistent, here and in park(): either this sees it parked, or it sees the flag.
    nudged_.store(true);
    std::uint64_t expected = parked;
    if (state_.compare_exchange_strong(expected, pending)) {
        nudged_.store(false);  // before the post, which the waiting thread consumes before it goes on
        sem_post(&semaphore_);
    }
    return phase(expected) != done;
}

bool Waiter::leave_to(Notifier& notifier, void* tag) noexcept {
    notifier_ = &notifier;
    tag_ = tag;
    enlist();
    std::uint64_t expected = pending;
    return state_.compare_exchange_strong(expected, parked, std::memory_order_acq_rel);
}

Status Waiter::park(Deadline deadline) noexcept {
    std::uint64_t expected = pending;
    if (!state_.compare_exchange_strong(expected, parked)) return Status::ok;
    int result = 0;
    int error = 0;
    if (nudged_.exchange(false)) {
        result = -1;
        error = EINTR;
    } else if (deadline.is_never()) {
        result = sem_wait(&semaphore_);
    } else {
        // The monotonic clock: a step of the wall clock must not stretch or cut a time-out.
        const timespec until = deadline.as_timespec();
        result = sem_clockwait(&semaphore_, CLOCK_MONOTONIC, &until);
    }
    if (result == 0) return settled() ? Status::ok : Status::interrupted;  // settled, or nudged
    if (error == 0) error = errno;
    expected = parked;
    if (!state_.compare_exchange_strong(expected, pending, std::memory_order_acq_rel)) {
        // Settled or nudged meanwhile: its post is in the semaphore or about to be; consume it so that
        // begin_again() works.
        while (sem_wait(&semaphore_) != 0) {
        }
        if (settled()) return Status::ok;
    }
    return error == ETIMEDOUT ? Status::timeout : Status::interrupted;
}

void EntryQueue::push_back(Entry& entry) noexcept {
    entry.prev = tail_;
    entry.next = nullptr;
    (tail_ ? tail_->next : head_) = &entry;
    tail_ = &entry;
    entry.queue = this;
    count(1);
}

void EntryQueue::push_front(Entry& entry) noexcept {
    entry.prev = nullptr;
    entry.next = head_;
    (head_ ? head_->prev : tail_) = &entry;
    head_ = &entry;
    entry.queue = this;
    count(1);
}

void EntryQueue::remove(Entry& entry) noexcept {
    if (entry.queue != this) return;
    (entry.prev ? entry.prev->next : head_) = entry.next;
    (entry.next ? entry.next->prev : tail_) = entry.prev;
    entry.prev = entry.next = nullptr;
    entry.queue = nullptr;
    count(-1);
}

Entry* EntryQueue::first_other(const Waiter* self) const noexcept {
    Entry* entry = head_;
    while (entry && (entry->waiter == self || entry->waiter->settled())) entry = entry->next;
    return entry;
}

Entry* EntryQueue::settle_first(Status status) noexcept {
    while (Entry* entry = head_) {
        remove(*entry);
        if (entry->waiter->settle(status, entry->index)) return entry;
    }
    return nullptr;
}

void EntryQueue::settle_all_of(OwnerId interpreter, Status status) noexcept {
    for (Entry* entry = head_; entry;) {
        Entry* const next = entry->next;
        if (entry->waiter->interpreter() == interpreter) {
            remove(*entry);
            entry->waiter->settle(status, entry->index);
        }
        entry = next;
    }
}

void WaiterList::add(Waiter& waiter) noexcept {
    std::lock_guard lock(mutex_);
    waiter.prev_ = nullptr;
    waiter.next_ = head_;
    if (head_) head_->prev_ = &waiter;
    head_ = &waiter;
    ++size_;
    if (ended_.contains(waiter.interpreter())) waiter.settle(Status::ending, 0);
    if (registry().callbacks.any(waiter.interpreter())) waiter.nudge();
}

void WaiterList::remove(Waiter& waiter) noexcept {
    std::lock_guard lock(mutex_);
    (waiter.prev_ ? waiter.prev_->next_ : head_) = waiter.next_;
    if (waiter.next_) waiter.next_->prev_ = waiter.prev_;
    --size_;
}

void WaiterList::end(OwnerId interpreter) {
    std::lock_guard lock(mutex_);
    ended_.insert(interpreter);
    for (Waiter* waiter = head_; waiter; waiter = waiter->next_) {
        if (waiter->interpreter() == interpreter) waiter->settle(Status::ending, 0);
    }
}

bool WaiterList::interrupt(OwnerId interpreter, pid_t thread) noexcept {
    std::lock_guard lock(mutex_);
    for (Waiter* waiter = head_; waiter; waiter = waiter->next_) {
        // Not those of an event loop: the thread is in the loop, not in them.
        if (waiter->interpreter() == interpreter && waiter->thread_ == thread && !waiter->notifier_) {
            return waiter->settle(Status::interrupted, 0);
        }
    }
    return false;
}

void WaiterList::nudge(OwnerId interpreter) noexcept {
    std::lock_guard lock(mutex_);
    for (Waiter* waiter = head_; waiter; waiter = waiter->next_) {
        if (waiter->interpreter() == interpreter && waiter->nudge()) return;
    }
}

std::size_t WaiterList::size() const noexcept {
    std::lock_guard lock(mutex_);
    return size_;
}

std::vector<Waiting> WaiterList::snapshot() const {
    std::lock_guard lock(mutex_);
    std::vector<Waiting> all;
    for (const Waiter* waiter = head_; waiter; waiter = waiter->next_) all.push_back(waiter->about());
    return all;
}

}  // namespace memchannel
