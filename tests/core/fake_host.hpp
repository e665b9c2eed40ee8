// A runtime for the core's tests: interpreters with a mutex as their GIL, and threads that are attached to
// one of them or to none. It asserts the rules that the core promises to keep.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "check.hpp"
#include "core/registry.hpp"

namespace fake {

using namespace memchannel;

// Ids of interpreters are never reused.
inline OwnerId new_id() {
    static std::atomic<OwnerId> last{0};
    return ++last;
}

struct Interpreter {
    OwnerId id = no_owner;
    Owner* owner = nullptr;
    std::mutex gil;
    std::atomic<long> references{1};  // the creator's
    std::atomic<long> dropped{0};     // of them, by the core
    std::atomic<bool> ended{false};
    std::function<void()> at_exit;  // run by the thread that ends it
};

struct Warning {
    OwnerId owner;
    std::size_t leases;
    std::vector<std::uint64_t> channels;
    OwnerId told_in;
};

class FakeHost final : public Host {
   public:
    OwnerId current() const noexcept override { return attached_ ? attached_->id : no_owner; }

    bool enter(Owner& owner, Visit& visit) noexcept override {
        check_no_core_lock();
        auto* const target = static_cast<Interpreter*>(owner.runtime());
        CHECK(!target->ended);
        if (refused_entries_.load() > 0 && refused_entries_.fetch_sub(1) > 0) return false;
        visit.home = attached_;
        if (attached_) let_go();
        ++entering_;
        take(*target);
        --entering_;
        visit.entered = target;
        ++entries_;
        return true;
    }

    void leave(Visit& visit) noexcept override {
        CHECK(attached_ == visit.entered);
        visit.entered = nullptr;
        let_go();
    }

    void resume(Visit& visit) noexcept override {
        check_no_core_lock();
        CHECK(!attached_);
        if (visit.home) take(*static_cast<Interpreter*>(visit.home));
    }

    // Under the core's lock, as documented: no GIL is taken here.
    void hold(Owner& owner) noexcept override {
        auto* const interpreter = static_cast<Interpreter*>(owner.runtime());
        CHECK(!interpreter->ended);
        CHECK(interpreter->references.fetch_add(1) > 0);
        ++held_;
    }

    void drop(Owner& owner) noexcept override {
        char name[16] = "";
        pthread_getname_np(pthread_self(), name, sizeof name);
        CHECK_EQ(std::string(name), "memchannel-drop");
        CHECK(!attached_);
        check_no_core_lock();
        auto& interpreter = *static_cast<Interpreter*>(owner.runtime());
        unreference(interpreter);
        ++interpreter.dropped;
    }

    void end_with_references(Owner& owner) noexcept override {
        CHECK(!static_cast<Interpreter*>(owner.runtime())->ended);
        ++counted_;
    }

    void* detach() noexcept override {
        CHECK(attached_);
        return let_go();
    }

    void reattach(void* token) noexcept override {
        check_no_core_lock();
        CHECK(!attached_);
        take(*static_cast<Interpreter*>(token));
    }

    void warn_abandoned(OwnerId owner, std::size_t leases,
                        const std::vector<std::uint64_t>& channels) noexcept override {
        check_no_core_lock();
        CHECK(attached_);
        std::lock_guard lock(warnings_mutex_);
        warnings_.push_back({owner, leases, channels, current()});
    }

    // --- for tests -----------------------------------------------------------------------------------------

    // A new interpreter, enrolled with the registry's owners (or those given).
    Interpreter& create(OwnerTable* table = nullptr) {
        auto* const made = new Interpreter;  // leaked like the core's Owner, which points to it
        made->id = new_id();
        made->owner = &(table ? *table : registry().owners).enroll(made->id, made);
        return *made;
    }

    // The creator lets go: ends the interpreter unless somebody else refers to it.
    void unreference(Interpreter& interpreter) noexcept {
        if (interpreter.references.fetch_sub(1) == 1) end(interpreter);
    }

    // What the end of an interpreter does, with the calling thread attached to nothing.
    void end(Interpreter& interpreter, bool is_main = false) noexcept {
        CHECK(!attached_);
        if (interpreter.at_exit) interpreter.at_exit();
        take(interpreter);
        try {
            registry().waiters.end(interpreter.id);
            registry().channels.end_interpreter(interpreter.id);
            registry().primitives.end_interpreter(*interpreter.owner);
        } catch (const std::bad_alloc&) {
            FAIL("no memory");
        }
        registry().callbacks.clear(interpreter.id);
        registry().owners.end(*interpreter.owner, is_main);
        interpreter.ended = true;
        let_go();
    }

    // Hangs if the calling thread holds a lock of the core, which the test's alarm then reports.
    void check_no_core_lock() const noexcept {
        static_cast<void>(registry().owners.counts());
        static_cast<void>(registry().waiters.size());
        static_cast<void>(registry().channels.size());
        if (Channel* const channel = probed_channel_.load()) static_cast<void>(channel->size());
    }

    void take(Interpreter& interpreter) noexcept {
        CHECK(!attached_);
        interpreter.gil.lock();
        attached_ = &interpreter;
    }

    Interpreter* let_go() noexcept {
        CHECK(attached_);
        Interpreter* const left = std::exchange(attached_, nullptr);
        left->gil.unlock();
        return left;
    }

    void refuse_entries(int count) noexcept { refused_entries_ = count; }
    // Callbacks also take this channel's lock.
    void probe(Channel* channel) noexcept { probed_channel_ = channel; }
    long entries() const noexcept { return entries_; }
    int entering() const noexcept { return entering_; }  // threads that wait for a GIL
    long held() const noexcept { return held_; }
    long counted() const noexcept { return counted_; }
    std::vector<Warning> warnings() const {
        std::lock_guard lock(warnings_mutex_);
        return warnings_;
    }

   private:
    static inline thread_local Interpreter* attached_ = nullptr;
    std::atomic<int> refused_entries_{0};
    std::atomic<Channel*> probed_channel_{nullptr};
    std::atomic<long> entries_{0};
    std::atomic<int> entering_{0};
    std::atomic<long> held_{0};
    std::atomic<long> counted_{0};
    mutable std::mutex warnings_mutex_;
    std::vector<Warning> warnings_;
};

// The process's host; starts the registry.
inline FakeHost& host() {
    static FakeHost& the_host = *[] {
        auto* const made = new FakeHost;  // the reaper may call it until the process is gone
        start_registry(*made);
        return made;
    }();
    return the_host;
}

class Attached {
   public:
    explicit Attached(Interpreter& interpreter) { host().take(interpreter); }
    Attached(const Attached&) = delete;
    Attached& operator=(const Attached&) = delete;
    ~Attached() { host().let_go(); }
};

// What became of the leases of a test.
struct Tally {
    std::atomic<long> made{0};
    std::atomic<long> given_back{0};
    std::atomic<long> destroyed{0};
};

// Memory of a fake interpreter.
class LentLease final : public OwnedLease {
   public:
    LentLease(Owner& owner, Tally& tally, std::uint64_t channel, bool deferred) noexcept
        : OwnedLease(owner, 8, channel, deferred), tally_(tally) {
        ++tally_.made;
    }
    void give_back() noexcept override {
        CHECK_EQ(host().current(), owner_id());
        CHECK(!given_back_);
        given_back_ = true;
        host().check_no_core_lock();
        ++tally_.given_back;
    }
    // Not on any account: back at once, attached to the owner.
    void refuse() noexcept {
        give_back();
        delete this;
    }

   private:
    ~LentLease() override { ++tally_.destroyed; }
    Tally& tally_;
    bool given_back_ = false;
};

inline LeaseRef lend(Interpreter& interpreter, Tally& tally, bool deferred = false,
                     std::uint64_t channel = no_channel) {
    auto* const lease = new LentLease(*interpreter.owner, tally, channel, deferred);
    CHECK(registry().owners.lend(*lease));
    return LeaseRef::adopt(lease);
}

// Memory of nobody: only counted.
class CountedLease final : public Lease {
   public:
    explicit CountedLease(Tally& tally) noexcept : tally_(tally) { ++tally_.made; }
    OwnerId owner_id() const noexcept override { return no_owner; }

   private:
    void ended() noexcept override {
        host().check_no_core_lock();
        ++tally_.destroyed;
        delete this;
    }
    Tally& tally_;
};

inline LeaseRef counted(Tally& tally) { return LeaseRef::adopt(new CountedLease(tally)); }

}  // namespace fake
