// Recordings for tests: started and stopped in a scope, and looked at.
#pragma once

#include <algorithm>

#include "blocking.hpp"

namespace fake {

class Recorded {
   public:
    explicit Recorded(std::size_t limit = 100'000, OwnerId starter = 0) {
        static_cast<void>(host());
        recording_ = registry().recorder.start(starter, registry().generation, limit);
        CHECK(recording_);
    }
    Recorded(const Recorded&) = delete;
    Recorded& operator=(const Recorded&) = delete;
    ~Recorded() { stop(); }

    bool stop() noexcept { return registry().recorder.stop(*recording_); }
    Recording& operator*() const noexcept { return *recording_; }
    Recording* operator->() const noexcept { return recording_.get(); }

    // Stops it first; by their beginning.
    std::vector<TraceEvent> events() {
        stop();
        std::vector<TraceEvent> all;
        for (const ThreadLog& log : recording_->logs())
            all.insert(all.end(), log.events().begin(), log.events().end());
        std::ranges::stable_sort(all, {}, &TraceEvent::begin_ns);
        return all;
    }
    std::vector<TraceEvent> events(Traced kind) {
        std::vector<TraceEvent> some = events();
        std::erase_if(some, [kind](const TraceEvent& event) { return event.kind != kind; });
        return some;
    }

   private:
    Handle<Recording> recording_;
};

}  // namespace fake
