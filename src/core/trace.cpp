#include "trace.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "registry.hpp"

namespace memchannel {

namespace {

struct ThreadName {
    char text[64] = "";
};
thread_local ThreadName own_name;

std::string label_of_this_thread() {
    if (own_name.text[0]) return own_name.text;
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    return name;
}

// Recordings and threads beyond 65,536 share numbers: arrows might then lead astray, nothing worse.
constexpr std::uint64_t first_id(std::uint64_t recording, std::uint64_t log) noexcept {
    return (recording & 0xffff) << 48 | (log & 0xffff) << 32;
}

}  // namespace

void name_thread(std::string_view name) noexcept {
    own_name.text[name.copy(own_name.text, sizeof own_name.text - 1)] = '\0';
}

ThreadLog::ThreadLog(Recording& recording, std::uint64_t number)
    : recording_(&recording),
      thread_(static_cast<pid_t>(syscall(SYS_gettid))),
      label_(label_of_this_thread()),
      last_id_(first_id(recording.number_, number)) {}

std::size_t Recording::claim_room() noexcept {
    std::size_t room = room_.load(std::memory_order_relaxed);
    while (room) {
        const std::size_t mine = std::min(room, claim);
        if (room_.compare_exchange_weak(room, room - mine, std::memory_order_relaxed)) return mine;
    }
    return 0;
}

std::size_t Recording::dropped() const noexcept {
    std::size_t all = threads_dropped_.load(std::memory_order_relaxed);
    for (const ThreadLog& log : logs_) all += log.dropped_;
    return all;
}

void Recording::forget_events() noexcept {
    for (ThreadLog& log : logs_) std::deque<TraceEvent>().swap(log.events_);
}

Handle<Recording> Recorder::start(OwnerId starter, unsigned generation, std::size_t limit) {
    std::lock_guard lock(mutex_);
    if (current_) return {};
    current_ = Handle<Recording>::adopt(new Recording(++numbers_, generation, starter, limit));
    active_.store(current_.get(), std::memory_order_release);
    detail::recording.store(true, std::memory_order_relaxed);
    return current_;
}

bool Recorder::stop(Recording& recording) noexcept {
    Handle<Recording> stopped;  // may be the last one: ends without the lock
    std::lock_guard lock(mutex_);
    if (current_.get() != &recording) return false;
    detail::recording.store(false, std::memory_order_relaxed);
    // Sequentially consistent, here and in record(): either this sees that a log is busy, or its thread sees
    // that nothing is recorded any more.
    active_.store(nullptr);
    recording.ended_ns_ = monotonic_ns();
    for (const ThreadLog& log : recording.logs_) {
        while (log.busy_.load()) sched_yield();  // for the length of an append
    }
    stopped = std::move(current_);
    return true;
}

void Recorder::end(OwnerId interpreter) noexcept {
    Handle<Recording> current;
    {
        std::lock_guard lock(mutex_);
        if (current_ && current_->starter() == interpreter) current = current_;
    }
    if (current) stop(*current);
}

OwnerId Recorder::starter() const noexcept {
    std::lock_guard lock(mutex_);
    return current_ ? current_->starter() : no_owner;
}

// The thread keeps the recording it last wrote to alive, so that a new one has another address.
ThreadLog* Recorder::own_log() noexcept {
    struct Own {
        Handle<Recording> recording;
        ThreadLog* log = nullptr;
    };
    static thread_local Own own;
    Recording* const active = active_.load(std::memory_order_acquire);
    if (!active) return nullptr;
    if (own.recording.get() == active) return own.log;
    Handle<Recording> former;  // ends without the lock
    std::lock_guard lock(mutex_);
    if (!current_) return nullptr;
    ThreadLog* const log = add_log(*current_);
    if (!log) return nullptr;
    former = std::exchange(own.recording, current_);
    return own.log = log;
}

ThreadLog* Recorder::add_log(Recording& recording) noexcept {
    try {
        return &recording.logs_.emplace_back(recording, recording.logs_.size());
    } catch (const std::bad_alloc&) {
        recording.threads_dropped_.fetch_add(1, std::memory_order_relaxed);
        return nullptr;
    }
}

void Recorder::record(TraceEvent event, std::string_view name) noexcept {
    ThreadLog* const log = own_log();
    if (!log) return;
    if (!name.empty()) event.name = intern(*log->recording_, name);  // this thread keeps it alive
    log->busy_.store(true);
    if (Recording* const active = active_.load(); active == log->recording_) {
        event.begin_ns = std::max(event.begin_ns, active->began_ns_);
        event.end_ns = std::max(event.end_ns, event.begin_ns);
        if (!log->allowance_) log->allowance_ = active->claim_room();
        try {
            if (log->allowance_) {
                log->events_.push_back(event);
                --log->allowance_;
            } else {
                ++log->dropped_;
            }
        } catch (const std::bad_alloc&) {
            ++log->dropped_;  // told with the events
        }
    }
    log->busy_.store(false, std::memory_order_release);
}

std::uint64_t Recorder::number(std::size_t count) noexcept {
    ThreadLog* const log = own_log();
    if (!log) return 0;
    const std::uint64_t first = log->last_id_ + 1;
    log->last_id_ += count;
    return first;
}

const char* Recorder::intern(Recording& recording, std::string_view name) noexcept {
    std::lock_guard lock(mutex_);
    try {
        return recording.names_.emplace(name).first->c_str();
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

}  // namespace memchannel
