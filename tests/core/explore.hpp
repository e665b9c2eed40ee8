// Every interleaving of a small scenario.
//
// Each half of a blocking call (enlist, and finish once it is settled) happens under the lock of its object,
// as do close, release and time-out: so these halves are the atomic steps, and every execution of the threads
// is equivalent to some order of them. The scheduler walks through all orders depth first, on one thread, and
// each is replayed from the start.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "check.hpp"
#include "core/registry.hpp"

namespace fake {

// One thread: a list of steps, of which the next can run now or not.
class Actor {
   public:
    virtual ~Actor() = default;
    virtual bool done() const = 0;
    virtual bool ready() const = 0;
    virtual void step() = 0;
};

// Things that happen one after the other, each at any time.
class Steps final : public Actor {
   public:
    explicit Steps(std::vector<std::function<void()>> what) : what_(std::move(what)) {}
    bool done() const override { return next_ == what_.size(); }
    bool ready() const override { return true; }
    void step() override { what_[next_++](); }

   private:
    const std::vector<std::function<void()>> what_;
    std::size_t next_ = 0;
};

// Depth first over all choices of who goes next. Returns the number of executions. A scenario has `actors`,
// and check_idle(), which fails if somebody is left in line.
template <class Scenario>
std::size_t explore(const std::function<void(Scenario&)>& fill,
                    const std::function<void(Scenario&)>& check_end) {
    std::vector<std::pair<std::size_t, std::size_t>> path;  // taken, of how many
    std::size_t executions = 0;
    check::on_failure = [&] {
        std::fprintf(stderr, "schedule:");
        for (const auto& [taken, of] : path) std::fprintf(stderr, " %zu/%zu", taken, of);
        std::fprintf(stderr, "\n");
    };
    do {
        Scenario scenario;
        fill(scenario);
        for (std::size_t depth = 0;; ++depth) {
            std::vector<Actor*> ready;
            bool all_done = true;
            for (const auto& actor : scenario.actors) {
                all_done = all_done && actor->done();
                if (!actor->done() && actor->ready()) ready.push_back(actor.get());
            }
            if (ready.empty()) {
                CHECK(all_done);  // otherwise somebody waits for ever
                break;
            }
            if (depth == path.size()) path.emplace_back(0, ready.size());
            CHECK_EQ(path[depth].second, ready.size());  // deterministic
            ready[path[depth].first]->step();
            CHECK(depth < 60);
        }
        scenario.check_idle();
        check_end(scenario);
        ++executions;
        while (!path.empty() && path.back().first + 1 == path.back().second) path.pop_back();
        if (!path.empty()) ++path.back().first;
    } while (!path.empty());
    check::on_failure = nullptr;
    CHECK_EQ(memchannel::registry().waiters.size(), 0u);
    return executions;
}

}  // namespace fake
