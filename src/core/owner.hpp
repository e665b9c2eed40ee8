// Who lent what, and the way back: the accounts of every interpreter that lends memory.
//
// One mutex guards all accounts. It is never held while a GIL is taken, Python runs or memory is given back;
// taking it while attached to an interpreter is fine, because its holders never wait.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "deadline.hpp"
#include "host.hpp"
#include "lease.hpp"
#include "mutex.hpp"
#include "waiter.hpp"

namespace memchannel {

class OwnerTable;

// One per interpreter, never freed: leases point here for as long as they live, and ids are never reused.
class Owner {
   public:
    Owner(OwnerId id, void* runtime, const OwnerTable* table) noexcept
        : id_(id), runtime_(runtime), table_(table) {}
    OwnerId id() const noexcept { return id_; }
    void* runtime() const noexcept { return runtime_; }
    // From here on the interpreter takes no lock any more: nobody would give it back.
    void stop_taking() noexcept { takes_.store(false, std::memory_order_release); }
    bool takes() const noexcept { return takes_.load(std::memory_order_acquire); }
    // What runs in it is to stop, as the process ends: each thread once for each round. 0: no more.
    void stop(std::uint64_t round) noexcept { stops_.store(round); }
    std::uint64_t stops() const noexcept { return stops_.load(); }
    // True once for each round.
    bool begin_round(std::uint64_t round) noexcept { return begun_.exchange(round) != round; }
    // Telling one of its threads so takes a while: true if none is being told yet.
    bool begin_to_tell() noexcept { return !telling_.exchange(true); }
    void told() noexcept { telling_.store(false); }

   private:
    friend class OwnerTable;
    enum class State { open, closing, dead };

    const OwnerId id_;
    void* const runtime_;  // the host's own pointer to the interpreter; valid until the state is dead
    const OwnerTable* const table_;  // a forked child has a new table: this owner is none of its own
    std::atomic<bool> takes_{true};
    std::atomic<std::uint64_t> stops_{0};
    std::atomic<std::uint64_t> begun_{0};
    std::atomic<bool> telling_{false};
    // All below: the table's mutex.
    State state_ = State::open;
    bool lends_ = true;      // false: it is being closed, and waits for nothing more
    bool ending_ = false;    // its exit has begun: no reference on it is taken or dropped any more
    int in_flight_ = 0;      // threads that have, or are about to make, a thread state here
    std::thread::id ender_;  // dropping the interpreter's last reference: not waited for by end()
    std::size_t leases_ = 0;
    OwnedLease* live_ = nullptr;
    OwnedLease* pending_ = nullptr;  // to be given back by the reaper, or by end()
    std::size_t handles_ = 0;
    bool held_ = false;  // one reference on the interpreter, while leases or handles are out
    bool queued_ = false;
    bool drop_queued_ = false;
    bool warned_ = false;
    Owner* work_next_ = nullptr;
    Owner* drop_next_ = nullptr;
    EntryQueue all_returned_;  // calls that wait until no lease is out
};

struct LeaseCounts {
    std::size_t live = 0;        // lent, not back, owner alive
    std::size_t lent = 0;        // ever
    std::size_t returned = 0;    // ever
    std::size_t abandoned = 0;   // owners that ended with the lease out
    std::size_t bytes_lent = 0;  // ever
};

struct LentOut {
    std::size_t leases = 0;
    std::vector<std::pair<std::uint64_t, std::size_t>> by_channel;
};

class OwnerTable {
   public:
    explicit OwnerTable(Host& host) noexcept : host_(host) {}
    OwnerTable(const OwnerTable&) = delete;
    OwnerTable& operator=(const OwnerTable&) = delete;

    Owner& enroll(OwnerId id, void* runtime);
    Owner* find(OwnerId id) const noexcept;

    // Puts a new lease on the account; false: the owner is ending and lends nothing any more.
    bool lend(OwnedLease& lease) noexcept;
    // Before it is closed: from now on it lends nothing. false, and it goes on lending: something is out.
    bool stop_lending(OwnerId id) noexcept;
    // It was not closed after all.
    void resume_lending(OwnerId id) noexcept;
    // The last holder let go. May switch to the owner (eager), or leave it to the reaper (deferred).
    void ended(OwnedLease& lease) noexcept;

    // Runs `what` attached to the owner, which does not end meanwhile; false: it is ending, or cannot be
    // entered.
    bool visit(Owner& owner, const std::function<void()>& what) noexcept;

    // Whether the calling thread is in the midst of such a visit, gives a lease back there, or ends one.
    static bool is_visiting() noexcept;

    // Runs `what` without entering the owner, which does not end meanwhile; false: it is ending.
    bool keep(Owner& owner, const std::function<void()>& what) noexcept;

    // The interpreter's exit begins: as early as that can be told.
    void begin_end(Owner& owner) noexcept;
    // The interpreter ends: called attached to it, at its exit, before its modules are torn down. The main
    // interpreter's end stops all switching in the process.
    void end(Owner& owner, bool is_main) noexcept;

    // Waits until the threads of the core have nothing to do; false: they still have, after `limit`. Attached
    // to nothing. These threads themselves, which run Python and ends of interpreters, do not wait.
    bool await_idle(std::chrono::milliseconds limit) noexcept;

    // Keeps the core from dropping references for as long as this lives, so that no interpreter comes to
    // its end by it between being looked at and being taken a reference on: CPython would end it once more
    // with that one (Python/pystate.c, _PyInterpreterState_IDDecref). Made while attached to nothing.
    class NoDrops {
       public:
        explicit NoDrops(OwnerTable& table) noexcept;
        ~NoDrops();
        NoDrops(const NoDrops&) = delete;
        NoDrops& operator=(const NoDrops&) = delete;

       private:
        OwnerTable& table_;
    };
    // What the host's users hold an interpreter by. The reference that goes with it is the core's, so that it
    // is dropped by a thread of the core, and heeds NoDrops; for an interpreter that is not known here yet it
    // is taken when that is enrolled. false: it is ending, or there is no memory.
    bool add_handle(OwnerId id) noexcept;
    // Called attached, with or without the interpreter alive. `wait`: a moment for the end that may follow,
    // unless that would be for itself.
    void drop_handle(OwnerId id, bool wait) noexcept;

    // Whether the interpreter's exit has begun, as far as that can be told; false for those that are not
    // known here.
    bool is_ending(OwnerId id) const noexcept;
    // From now on an interpreter that was made without it ends with the last reference, of which the caller
    // has one; false: it is not known here, or ending.
    bool end_with_references(OwnerId id) noexcept;

    // One thread at a time closes an interpreter: the host cannot stand two (Modules/_interpretersmodule.c,
    // interp_destroy).
    class Closing {
       public:
        Closing(OwnerTable& table, OwnerId id) noexcept;
        ~Closing();
        Closing(const Closing&) = delete;
        Closing& operator=(const Closing&) = delete;
        bool is_first() const noexcept { return first_; }

       private:
        OwnerTable& table_;
        const OwnerId id_;
        bool first_ = false;
    };

    LentOut lent_by(OwnerId id) const;
    LeaseCounts counts() const noexcept;
    // Enlists a call that is settled (ok) once the owner has nothing lent; false: nothing is lent now.
    bool await_returned(Owner& owner, Entry& entry) noexcept;
    void withdraw(Owner& owner, Entry& entry) noexcept;

   private:
    class VisitSpan;
    using Lock = BriefLock;

    Owner* locate(OwnerId id) const noexcept;
    void hold(Owner& owner) noexcept;
    void take_early_handles(Owner& owner) noexcept;
    void unlink(OwnedLease& lease) noexcept;
    void settle_returned(OwnedLease& lease) noexcept;
    void abandon(Lock& lock, OwnedLease& lease) noexcept;
    void push_pending(Owner& owner, OwnedLease& lease) noexcept;
    void queue_for_reaper(Owner& owner) noexcept;
    void queue_drop(Owner& owner) noexcept;
    // A thread that no signal handler runs on; false: there is none to be had now.
    bool start(void (OwnerTable::*work)()) noexcept;
    bool switchable(const Owner& owner) const noexcept;
    bool droppable(const Owner& owner) const noexcept;
    bool quiet(const Owner& owner, bool is_main) const noexcept;
    void settle_returned_all(OwnedLease* batch) noexcept;
    static void give_back_all(OwnedLease* batch) noexcept;

    void reap() noexcept;
    void reap_pending(Lock& lock, Owner& owner) noexcept;
    void drop_queued() noexcept;
    void drop_reference(Lock& lock, Owner& owner) noexcept;

    // Visits that the calling thread is in, one inside the other, and references that it drops.
    static inline thread_local int visit_depth_ = 0;

    Host& host_;
    mutable BriefMutex mutex_;
    std::condition_variable_any drained_;  // in_flight or no_drops fell, an end began, or a thread went idle
    std::condition_variable_any work_ready_;  // the reaper only
    // All below: mutex_.
    std::vector<Owner*> owners_;
    std::vector<std::pair<OwnerId, std::size_t>> early_handles_;  // on those that are not enrolled yet
    std::vector<OwnerId> closing_;                                // by Closing, known here or not
    Owner* work_ = nullptr;
    bool reaper_running_ = false;
    std::thread::id reaper_;
    bool reaper_asleep_ = false;
    bool reaper_busy_ = false;
    // References are dropped by another thread, as an end may last: it waits for the interpreter's threads.
    // It lives for as long as there are some to be dropped.
    Owner* drops_ = nullptr;
    bool dropper_running_ = false;
    std::thread::id dropper_;
    std::size_t no_drops_ = 0;
    bool stopping_ = false;  // the main interpreter is finalizing: no switch anywhere any more
    LeaseCounts counts_;     // but `live`, which follows from the others
};

}  // namespace memchannel
