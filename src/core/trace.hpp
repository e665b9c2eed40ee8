// What happened when: the events of all threads and interpreters, while somebody records them.
//
// Each thread appends to a log of its own, without a lock. While nothing is recorded, a place that could
// record costs one relaxed load and a branch that is never taken.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "deadline.hpp"
#include "lease.hpp"
#include "object.hpp"
#include "side.hpp"
#include "status.hpp"

namespace memchannel {

namespace detail {
extern std::atomic<bool> recording;  // with the registry: the same for the whole process
}  // namespace detail

inline bool tracing() noexcept { return detail::recording.load(std::memory_order_relaxed); }

enum class Traced : std::uint8_t {
    send,       // id: the first of `count` messages; object: the channel; amount: bytes
    recv,       // likewise
    lend,       // id: the lease; object: the channel; amount: bytes
    give_back,  // likewise; other: the owner
    abandon,    // likewise: its owner ended before
    visit,      // other: the owner; id: ns until it was entered; amount: ns until the thread was back home
    wait,       // name: the call; object: a channel (with a side) or a primitive
    submit,     // id: the task's message; object: the pool's channel
    task,       // likewise; name: the function
    run,        // the interpreter executes code that another one gave it, or the recorder's own
};

struct TraceEvent {
    std::int64_t begin_ns = 0;       // monotonic clock
    std::int64_t end_ns = 0;         // as begin_ns: an instant
    OwnerId interpreter = no_owner;  // where the thread is at home
    OwnerId other = no_owner;
    std::uint64_t object = 0;
    std::uint64_t id = 0;  // 0: unknown, it began before the recording
    std::uint64_t amount = 0;
    const char* name = nullptr;  // valid for ever, or kept by the recording: see Recorder::record
    std::uint32_t count = 1;
    Traced kind = Traced::run;
    Side side = Side::none;
    Status status = Status::ok;
};

class Recording;

// The events of one thread, appended by it alone.
class ThreadLog {
   public:
    ThreadLog(Recording& recording, std::uint64_t number);
    pid_t thread() const noexcept { return thread_; }
    const std::string& label() const noexcept { return label_; }
    const std::deque<TraceEvent>& events() const noexcept { return events_; }

   private:
    friend class Recorder;
    friend class Recording;
    Recording* const recording_;
    const pid_t thread_;
    const std::string label_;
    std::uint64_t last_id_;
    std::atomic<bool> busy_{false};  // about to look whether it is still recorded, or appending
    // Only while busy, or once nothing is recorded any more:
    std::deque<TraceEvent> events_;
    std::size_t allowance_ = 0;
    std::size_t dropped_ = 0;
};

// One stretch of recorded time, at most `limit` events of it: the first ones. Each thread claims room for
// `claim` events at a time, so that so many for each thread but one may be missing from the limit.
class Recording final : public Object {
   public:
    static constexpr std::size_t claim = 64;

    Recording(std::uint64_t number, unsigned generation, OwnerId starter, std::size_t limit) noexcept
        : number_(number), generation_(generation), starter_(starter), room_(limit) {}

    OwnerId starter() const noexcept { return starter_; }
    unsigned generation() const noexcept { return generation_; }
    std::int64_t began_ns() const noexcept { return began_ns_; }
    // All below: once it is stopped.
    std::int64_t ended_ns() const noexcept { return ended_ns_; }
    const std::deque<ThreadLog>& logs() const noexcept { return logs_; }
    std::size_t dropped() const noexcept;
    // Frees the events: threads that recorded some keep the rest until they record again.
    void forget_events() noexcept;
    // Whether the id was given during this recording.
    bool knows(std::uint64_t id) const noexcept { return id >> 48 == (number_ & 0xffff); }

   private:
    friend class Recorder;
    friend class ThreadLog;
    std::size_t claim_room() noexcept;

    const std::uint64_t number_;
    const unsigned generation_;  // the process's: logs may be half-written in a forked child
    const OwnerId starter_;
    const std::int64_t began_ns_ = monotonic_ns();
    std::int64_t ended_ns_ = 0;
    std::atomic<std::size_t> room_;
    std::atomic<std::size_t> threads_dropped_{0};  // events of threads for whose logs memory lacked
    // The recorder's mutex:
    std::deque<ThreadLog> logs_;
    std::unordered_set<std::string> names_;
};

class Recorder {
   public:
    // Empty: somebody records already. Throws std::bad_alloc.
    Handle<Recording> start(OwnerId starter, unsigned generation, std::size_t limit);
    // Nobody appends to it any more afterwards; false: it was stopped before.
    bool stop(Recording& recording) noexcept;
    // The interpreter ends: so does its recording, which nobody will read.
    void end(OwnerId interpreter) noexcept;
    // Who started the recording that goes on, or no_owner.
    OwnerId starter() const noexcept;

    // To whichever recording goes on now, also what began in an earlier one. `name`, if given, is copied into
    // the recording, and is the event's.
    void record(TraceEvent event, std::string_view name = {}) noexcept;
    // The first of so many new numbers, never 0; 0: nothing is recorded.
    std::uint64_t number(std::size_t count = 1) noexcept;

   private:
    ThreadLog* own_log() noexcept;
    // The same text, valid as long as the recording; nullptr: no memory.
    const char* intern(Recording& recording, std::string_view name) noexcept;
    ThreadLog* add_log(Recording& recording) noexcept;

    mutable std::mutex mutex_;
    Handle<Recording> current_;                // mutex_
    std::uint64_t numbers_ = 0;                // mutex_
    std::atomic<Recording*> active_{nullptr};  // the same; only compared without the mutex
};

// How the calling thread is called in recordings, in at most 63 bytes; else as the system knows it.
void name_thread(std::string_view name) noexcept;

}  // namespace memchannel
