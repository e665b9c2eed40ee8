#include "owner.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>

#include "registry.hpp"

namespace memchannel {

namespace {

// One attach to a busy owner costs it a GIL hand-over: let leases gather for a moment first.
constexpr auto linger = std::chrono::microseconds(500);

// What is given back may hold memory that others lent, and that again: so many visits of a thread, one inside
// the other, fit on any stack. What comes deeper is left to the reaper.
constexpr int deepest_visit = 16;

// No thread of the core is one that a signal interrupts: handlers belong to the main thread.
class AllSignalsBlocked {
   public:
    AllSignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

   private:
    sigset_t before_;
};

// `interpreter`: where the thread is at home that does it.
void trace_lease(Traced kind, OwnerId interpreter, const OwnedLease& lease, std::uint64_t id) noexcept {
    const std::int64_t now = monotonic_ns();
    registry().recorder.record({.begin_ns = now,
                                .end_ns = now,
                                .interpreter = interpreter == no_owner ? lease.owner_id() : interpreter,
                                .other = lease.owner_id(),
                                .object = lease.channel(),
                                .id = id,
                                .amount = lease.nbytes(),
                                .kind = kind});
}

}  // namespace

// A thread's way to an owner and back, for a recording.
class OwnerTable::VisitSpan {
   public:
    VisitSpan(const Host& host, const Owner& owner) noexcept {
        if (!tracing()) [[likely]]
            return;
        const OwnerId home = host.current();
        event_ = {.begin_ns = monotonic_ns(),
                  .interpreter = home == no_owner ? owner.id() : home,
                  .other = owner.id(),
                  .kind = Traced::visit};
    }
    bool recorded() const noexcept { return event_.begin_ns != 0; }
    OwnerId home() const noexcept { return event_.interpreter; }
    void entered() noexcept {
        ++visit_depth_;
        if (recorded()) event_.id = since(event_.begin_ns);
    }
    void left() noexcept {
        --visit_depth_;
        if (recorded()) left_ns_ = monotonic_ns();
    }
    void back() noexcept {
        if (!recorded()) return;
        event_.end_ns = monotonic_ns();
        event_.amount = static_cast<std::uint64_t>(event_.end_ns - left_ns_);
        registry().recorder.record(event_);
    }

   private:
    static std::uint64_t since(std::int64_t ns) noexcept {
        return static_cast<std::uint64_t>(monotonic_ns() - ns);
    }
    TraceEvent event_;
    std::int64_t left_ns_ = 0;
};

OwnerId OwnedLease::owner_id() const noexcept { return owner_->id(); }

[[gnu::hot]] void OwnedLease::ended() noexcept { registry().owners.ended(*this); }

Owner& OwnerTable::enroll(OwnerId id, void* runtime) {
    Lock lock(mutex_);
    for (Owner* owner : owners_) {
        if (owner->id() == id) return *owner;
    }
    owners_.reserve(owners_.size() + 1);
    owners_.push_back(new Owner(id, runtime, this));
    take_early_handles(*owners_.back());
    return *owners_.back();
}

Owner* OwnerTable::find(OwnerId id) const noexcept {
    const Lock lock(mutex_);
    return locate(id);
}

Owner* OwnerTable::locate(OwnerId id) const noexcept {
    const auto found =
        std::find_if(owners_.begin(), owners_.end(), [id](const Owner* owner) { return owner->id() == id; });
    return found == owners_.end() ? nullptr : *found;
}

bool OwnerTable::switchable(const Owner& owner) const noexcept {
    return owner.state_ == Owner::State::open && !stopping_;
}

[[gnu::hot]] bool OwnerTable::lend(OwnedLease& lease) noexcept {
    Owner& owner = lease.owner();
    if (tracing()) [[unlikely]]
        lease.trace_id_ = registry().recorder.number();
    const std::uint64_t id = lease.trace_id_;
    Lock lock(mutex_);
    if (!switchable(owner) || !owner.lends_) return false;
    lease.next_ = owner.live_;
    if (owner.live_) owner.live_->prev_ = &lease;
    owner.live_ = &lease;
    ++owner.leases_;
    ++counts_.lent;
    counts_.bytes_lent += lease.nbytes();
    hold(owner);
    lock.unlock();
    if (id) [[unlikely]]
        trace_lease(Traced::lend, owner.id(), lease, id);
    return true;
}

bool OwnerTable::stop_lending(OwnerId id) noexcept {
    const Lock lock(mutex_);
    Owner* const owner = locate(id);
    if (!owner) return true;  // it never lent anything
    owner->lends_ = owner->leases_ > 0;
    return !owner->lends_;
}

void OwnerTable::resume_lending(OwnerId id) noexcept {
    const Lock lock(mutex_);
    if (Owner* const owner = locate(id)) owner->lends_ = true;
}

[[gnu::hot]] void OwnerTable::unlink(OwnedLease& lease) noexcept {
    Owner& owner = lease.owner();
    (lease.prev_ ? lease.prev_->next_ : owner.live_) = lease.next_;
    if (lease.next_) lease.next_->prev_ = lease.prev_;
    if (--owner.leases_ == 0) {
        owner.all_returned_.settle_all(Status::ok);
        if (droppable(owner)) queue_for_reaper(owner);  // which looks again in a moment: more may be lent
    }
}

[[gnu::hot]] void OwnerTable::settle_returned(OwnedLease& lease) noexcept {
    // An owner may get its memory back while it is torn down, after its leases were given up.
    if (lease.abandoned_) --counts_.abandoned;
    ++counts_.returned;
    unlink(lease);
}

[[gnu::hot]] void OwnerTable::ended(OwnedLease& lease) noexcept {
    Owner& owner = lease.owner();
    if (owner.table_ != this) {  // a forked child owns none of its parent's leases
        delete &lease;
        return;
    }
    if (host_.current() == owner.id()) {
        lease.give_back();
        Lock lock(mutex_);
        settle_returned(lease);
        lock.unlock();
        if (tracing()) [[unlikely]]
            trace_lease(Traced::give_back, owner.id(), lease, lease.trace_id_);
        delete &lease;
        return;
    }
    Lock lock(mutex_);
    if (stopping_ || owner.state_ == Owner::State::dead) return abandon(lock, lease);
    if (owner.state_ == Owner::State::closing) return push_pending(owner, lease);  // its own exit takes them
    if (lease.deferred() || visit_depth_ >= deepest_visit) {
        push_pending(owner, lease);
        return queue_for_reaper(owner);
    }
    ++owner.in_flight_;
    lock.unlock();
    VisitSpan span(host_, owner);
    Visit visit;
    const bool entered = host_.enter(owner, visit);
    if (entered) {
        span.entered();
        lease.give_back();
        host_.leave(visit);
        span.left();
        if (span.recorded()) [[unlikely]]
            trace_lease(Traced::give_back, span.home(), lease, lease.trace_id_);
    }
    lock.lock();
    if (entered) {
        settle_returned(lease);
    } else {
        push_pending(owner, lease);
        if (switchable(owner)) queue_for_reaper(owner);
    }
    --owner.in_flight_;
    drained_.notify_all();
    lock.unlock();
    if (!entered) return;
    delete &lease;
    host_.resume(visit);  // last: may never return at exit, and nothing of ours is held
    span.back();
}

bool OwnerTable::visit(Owner& owner, const std::function<void()>& what) noexcept {
    if (owner.table_ != this) return false;
    if (host_.current() == owner.id()) {
        what();
        return true;
    }
    Lock lock(mutex_);
    if (!switchable(owner)) return false;
    ++owner.in_flight_;
    lock.unlock();
    VisitSpan span(host_, owner);
    Visit visit;
    const bool entered = host_.enter(owner, visit);
    if (entered) {
        span.entered();
        what();
        host_.leave(visit);
        span.left();
    }
    lock.lock();
    --owner.in_flight_;
    drained_.notify_all();
    lock.unlock();
    if (!entered) return false;
    host_.resume(visit);
    span.back();
    return true;
}

bool OwnerTable::is_visiting() noexcept { return visit_depth_ > 0; }

bool OwnerTable::keep(Owner& owner, const std::function<void()>& what) noexcept {
    if (owner.table_ != this) return false;
    Lock lock(mutex_);
    if (!switchable(owner)) return false;
    ++owner.in_flight_;
    lock.unlock();
    what();
    lock.lock();
    --owner.in_flight_;
    drained_.notify_all();
    return true;
}

void OwnerTable::abandon(Lock& lock, OwnedLease& lease) noexcept {
    Owner& owner = lease.owner();
    if (!lease.abandoned_) {
        ++counts_.abandoned;
        lease.abandoned_ = true;
    }
    const bool warn = !owner.warned_ && !stopping_ && host_.current() != no_owner;
    std::size_t out = owner.leases_;
    std::vector<std::uint64_t> channels;
    if (warn) {
        owner.warned_ = true;
        try {
            for (const OwnedLease* one = owner.live_; one; one = one->next_)
                channels.push_back(one->channel());
            std::sort(channels.begin(), channels.end());
            channels.erase(std::unique(channels.begin(), channels.end()), channels.end());
        } catch (const std::bad_alloc&) {
            channels.clear();  // the warning names the owner only
        }
    }
    unlink(lease);
    lock.unlock();
    if (tracing()) [[unlikely]]
        trace_lease(Traced::abandon, host_.current(), lease, lease.trace_id_);
    delete &lease;
    if (warn) host_.warn_abandoned(owner.id(), out, channels);
}

void OwnerTable::push_pending(Owner& owner, OwnedLease& lease) noexcept {
    lease.pending_next_ = owner.pending_;
    owner.pending_ = &lease;
}

void OwnerTable::queue_for_reaper(Owner& owner) noexcept {
    if (!owner.queued_) {
        owner.queued_ = true;
        owner.work_next_ = work_;
        work_ = &owner;
    }
    if (reaper_running_) {
        if (reaper_asleep_) {
            reaper_asleep_ = false;
            work_ready_.notify_one();
        }
        return;
    }
    reaper_running_ = true;
    if (!start(&OwnerTable::reap)) reaper_running_ = false;
}

bool OwnerTable::start(void (OwnerTable::*work)()) noexcept {
    const AllSignalsBlocked blocked;
    try {
        std::thread([this, work] { (this->*work)(); }).detach();
        return true;
    } catch (const std::exception&) {  // no thread, or no memory for one
        return false;                  // harmless: the work stays queued, and whoever queues more tries again
    }
}

void OwnerTable::give_back_all(OwnedLease* batch) noexcept {
    for (OwnedLease* lease = batch; lease; lease = lease->pending_next_) {
        lease->give_back();
        if (tracing()) [[unlikely]]
            trace_lease(Traced::give_back, lease->owner_id(), *lease, lease->trace_id_);
    }
}

void OwnerTable::settle_returned_all(OwnedLease* batch) noexcept {
    while (OwnedLease* lease = batch) {
        batch = lease->pending_next_;
        settle_returned(*lease);
        delete lease;  // no Python in a lease's destructor
    }
}

void OwnerTable::reap() noexcept {
    pthread_setname_np(pthread_self(), "memchannel-reap");
    Lock lock(mutex_);
    reaper_ = std::this_thread::get_id();
    for (;;) {
        while (!work_ || stopping_) {
            reaper_asleep_ = true;
            work_ready_.wait(lock);
        }
        reaper_asleep_ = false;
        lock.unlock();
        std::this_thread::sleep_for(linger);
        lock.lock();
        if (stopping_) continue;
        Owner* owner = std::exchange(work_, nullptr);
        reaper_busy_ = true;
        while (owner) {
            Owner* const next = std::exchange(owner->work_next_, nullptr);
            owner->queued_ = false;
            if (owner->pending_ && switchable(*owner)) reap_pending(lock, *owner);
            if (droppable(*owner)) queue_drop(*owner);
            owner = next;
        }
        reaper_busy_ = false;
        drained_.notify_all();
    }
}

void OwnerTable::reap_pending(Lock& lock, Owner& owner) noexcept {
    OwnedLease* batch = std::exchange(owner.pending_, nullptr);
    ++owner.in_flight_;
    lock.unlock();
    VisitSpan span(host_, owner);
    Visit visit;
    const bool entered = host_.enter(owner, visit);
    if (entered) {
        span.entered();
        give_back_all(batch);
        host_.leave(visit);
        span.left();
        span.back();
    }
    lock.lock();
    if (entered) {
        settle_returned_all(batch);
    } else {
        while (OwnedLease* lease = batch) {
            batch = lease->pending_next_;
            push_pending(owner, *lease);
        }
        if (switchable(owner)) queue_for_reaper(owner);
    }
    --owner.in_flight_;
    drained_.notify_all();
}

bool OwnerTable::quiet(const Owner& owner, bool is_main) const noexcept {
    const int own_pin = owner.ender_ == std::this_thread::get_id() ? 1 : 0;
    if (owner.in_flight_ > own_pin) return false;
    if (!is_main) return true;
    return !reaper_busy_ && !dropper_running_ &&
           std::all_of(owners_.begin(), owners_.end(),
                       [](const Owner* other) { return other->in_flight_ == 0; });
}

void OwnerTable::end(Owner& owner, bool is_main) noexcept {
    Lock lock(mutex_);
    if (owner.state_ != Owner::State::open) return;
    owner.state_ = Owner::State::closing;
    if (is_main) {
        stopping_ = true;
        drained_.notify_all();
    }
    if (!quiet(owner, is_main)) {
        // Those who are on their way in need this interpreter's GIL: wait for them without it.
        lock.unlock();
        void* token = host_.detach();
        lock.lock();
        drained_.wait(lock, [&] { return quiet(owner, is_main); });
        lock.unlock();
        host_.reattach(token);
        lock.lock();
    }
    owner.state_ = Owner::State::dead;
    OwnedLease* batch = std::exchange(owner.pending_, nullptr);
    lock.unlock();
    give_back_all(batch);
    lock.lock();
    settle_returned_all(batch);
    for (OwnedLease* lease = owner.live_; lease; lease = lease->next_) {
        lease->abandoned_ = true;
        ++counts_.abandoned;
    }
    owner.all_returned_.settle_all(Status::ending);
}

bool OwnerTable::await_idle(std::chrono::milliseconds limit) noexcept {
    Lock lock(mutex_);
    const std::thread::id self = std::this_thread::get_id();
    if (self == reaper_ || self == dropper_) return true;
    return drained_.wait_for(
        lock, limit, [&] { return (!reaper_running_ || (!work_ && !reaper_busy_)) && !dropper_running_; });
}

LentOut OwnerTable::lent_by(OwnerId id) const {
    LentOut out;
    std::map<std::uint64_t, std::size_t> by_channel;
    Lock lock(mutex_);
    for (const Owner* owner : owners_) {
        if (owner->id() != id) continue;
        out.leases = owner->leases_;
        for (const OwnedLease* lease = owner->live_; lease; lease = lease->next_)
            ++by_channel[lease->channel()];
    }
    out.by_channel.assign(by_channel.begin(), by_channel.end());
    return out;
}

LeaseCounts OwnerTable::counts() const noexcept {
    Lock lock(mutex_);
    LeaseCounts counts = counts_;
    counts.live = counts.lent - counts.returned - counts.abandoned;
    return counts;
}

bool OwnerTable::await_returned(Owner& owner, Entry& entry) noexcept {
    Lock lock(mutex_);
    if (owner.leases_ == 0 || owner.state_ == Owner::State::dead) return false;
    owner.all_returned_.push_back(entry);
    return true;
}

void OwnerTable::withdraw(Owner& owner, Entry& entry) noexcept {
    Lock lock(mutex_);
    owner.all_returned_.remove(entry);
}

}  // namespace memchannel
