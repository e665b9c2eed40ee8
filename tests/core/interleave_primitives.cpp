// Every interleaving of small scenarios with locks, semaphores, conditions and barriers.
//
// What is checked in all of them: a lock has one holder at a time, the end of its holder's interpreter is
// told once, no notification is lost, a barrier lets all go or none, and nobody waits for ever.
#include <algorithm>
#include <optional>

#include "core/barrier.hpp"
#include "core/condition.hpp"
#include "core/lock.hpp"
#include "core/semaphore.hpp"
#include "explore.hpp"
#include "primitives.hpp"

using namespace fake;

namespace {

// How a call waits: to the end; no longer than it likes, which may be over at any moment; or it is
// interrupted at any moment and gives up even what it was woken for.
enum class Patience { endless, timed, quits };

struct History {
    std::vector<Status> outcomes;  // of all calls, in the order in which they ended
    std::vector<std::uint32_t> places;
    int inside = 0;  // between acquire and release
    int count(Status status) const { return static_cast<int>(std::ranges::count(outcomes, status)); }
};

// How long calls have waited when they come too late: each execution must go the same way again.
enum class Age { fresh, overdue };

// Takes a lock or a permit and gives it back, a number of times. Each step is one look into the primitive.
template <class Turned>
class Taker : public Actor {
   public:
    Taker(Handle<Turned> primitive, const Caller& who, int rounds, Patience patience, Age age,
          History& history)
        : primitive_(std::move(primitive)),
          who_(who),
          left_(rounds),
          patience_(patience),
          age_(age),
          history_(history) {}
    bool done() const override { return left_ == 0; }
    bool ready() const override {
        return state_ != State::waiting || turn_->settled() || (turn_->yields() && courtesies_ < 2) ||
               patience_ != Patience::endless;
    }
    void step() override {
        switch (state_) {
            case State::out:
                if (!turn_) {
                    turn_.emplace(*primitive_, who_);
                    turn_->entry().since_ns = age_ == Age::fresh ? INT64_MAX / 2 : 1;
                }
                return went(turn_->begin());
            case State::waiting:
                if (patience_ == Patience::quits) {
                    turn_->quit();
                    return went(Status::interrupted);
                }
                if (turn_->settled() && !said_so_) {  // what a woken thread does before it has its GIL
                    said_so_ = true;
                    return primitive_->woken(turn_->entry());
                }
                return went(turn_->finish());
            case State::inside:
                --history_.inside;
                give_back();
                state_ = State::out;
                --left_;
        }
    }

   private:
    enum class State { out, waiting, inside };
    void went(Status status) {
        state_ = status == Status::parked ? State::waiting
                 : status == Status::ok   ? State::inside
                                          : State::out;
        said_so_ = false;
        if (status == Status::parked || status == Status::retry) return;
        if (status == Status::timeout && patience_ == Patience::endless) {  // of courtesy
            ++courtesies_;
            return;
        }
        turn_.reset();
        history_.outcomes.push_back(status);
        if (status == Status::ok) ++history_.inside;
        else --left_;
    }
    void give_back() {
        // An interpreter that has ended meanwhile holds nothing.
        if (!who_.owner.takes()) return;
        if constexpr (std::is_same_v<Turned, Lock>) CHECK_EQ(primitive_->release(who_), Status::ok);
        else CHECK_EQ(primitive_->release(1), Status::ok);
    }

    const Handle<Turned> primitive_;
    const Caller who_;
    int left_;
    const Patience patience_;
    const Age age_;
    History& history_;
    State state_ = State::out;
    bool said_so_ = false;
    int courtesies_ = 0;  // there could be any number while the lock is held
    std::optional<Turn<Turned>> turn_;
};

struct Scenario {
    std::vector<std::unique_ptr<Actor>> actors;
    History history;
    Handle<Lock> lock;
    Handle<Semaphore> semaphore;
    Handle<Condition> condition;
    Handle<Barrier> barrier;
    int items = 0;  // under the condition's lock
    Age age = Age::fresh;

    template <class Turned>
    void take(const Handle<Turned>& primitive, const Caller& who, int rounds, Patience patience) {
        actors.push_back(std::make_unique<Taker<Turned>>(primitive, who, rounds, patience, age, history));
    }
    void happen(std::vector<std::function<void()>> what) {
        actors.push_back(std::make_unique<Steps>(std::move(what)));
    }
    void check_idle() const {
        if (condition) CHECK_EQ(condition->waiting(), 0u);
        if (barrier) CHECK_EQ(barrier->waiting(), 0u);
    }
};

Caller caller(std::uint64_t thread) {
    static Interpreter& interpreter = host().create();
    return {*interpreter.owner, {thread, static_cast<pid_t>(thread)}};
}

// Ends an interpreter as far as primitives are concerned: each execution needs a fresh one.
Interpreter& fresh() { return host().create(); }
void end(Interpreter& interpreter) { registry().primitives.end_interpreter(*interpreter.owner); }

// Waits on a condition until there is an item, and takes it.
class Consumer final : public Actor {
   public:
    Consumer(Scenario& scenario, const Caller& who, Patience patience)
        : scenario_(scenario), who_(who), patience_(patience), turn_(*scenario.lock, who) {
        turn_.entry().since_ns = INT64_MAX / 2;
    }
    bool done() const override { return state_ == State::done; }
    bool ready() const override {
        if (state_ == State::queued) return turn_.settled();
        if (state_ == State::waiting) return waiter_->settled() || patience_ != Patience::endless;
        return true;
    }
    void step() override {
        switch (state_) {
            case State::out:
                return took(turn_.begin());
            case State::queued:
                return took(turn_.finish());
            case State::inside:
                return look();
            case State::waiting:
                if (patience_ == Patience::quits) {
                    scenario_.condition->withdraw(entry_);
                    gave_up_ = true;
                } else {
                    gave_up_ = scenario_.condition->finish(entry_) != Status::ok;
                }
                waiter_.reset();
                state_ = State::out;
                return;
            case State::done:
                FAIL("done already");
        }
    }

   private:
    enum class State { out, queued, inside, waiting, done };
    void took(Status status) {
        if (status == Status::ok) state_ = State::inside;
        else if (status == Status::parked) state_ = State::queued;
        else CHECK_EQ(status, Status::retry);
        if (status == Status::retry) state_ = State::out;
    }
    void look() {
        if (scenario_.items > 0 || gave_up_) {
            if (scenario_.items > 0) --scenario_.items;
            scenario_.history.outcomes.push_back(gave_up_ ? Status::timeout : Status::ok);
            CHECK_EQ(scenario_.lock->release(who_), Status::ok);
            state_ = State::done;
            return;
        }
        waiter_.emplace(who_.owner.id(), "Condition.wait", scenario_.condition->id());
        entry_.waiter = &*waiter_;
        scenario_.condition->enlist(entry_);
        std::size_t depth = 0;
        CHECK_EQ(scenario_.lock->release_all(who_, depth), Status::ok);
        state_ = State::waiting;
    }

    Scenario& scenario_;
    const Caller who_;
    const Patience patience_;
    Turn<Lock> turn_;
    State state_ = State::out;
    bool gave_up_ = false;
    std::optional<Waiter> waiter_;
    Entry entry_;
};

// Makes an item with the lock held, and notifies one.
class Producer final : public Actor {
   public:
    Producer(Scenario& scenario, const Caller& who)
        : scenario_(scenario), who_(who), turn_(*scenario.lock, who) {
        turn_.entry().since_ns = INT64_MAX / 2;
    }
    bool done() const override { return done_; }
    bool ready() const override { return !queued_ || turn_.settled(); }
    void step() override {
        const Status status = queued_ ? turn_.finish() : turn_.begin();
        queued_ = status == Status::parked;
        if (status != Status::ok) return;
        ++scenario_.items;
        scenario_.condition->notify(1);
        CHECK_EQ(scenario_.lock->release(who_), Status::ok);
        done_ = true;
    }

   private:
    Scenario& scenario_;
    const Caller who_;
    Turn<Lock> turn_;
    bool queued_ = false;
    bool done_ = false;
};

class Party final : public Actor {
   public:
    Party(Scenario& scenario, OwnerId who, int rounds, Patience patience)
        : scenario_(scenario), who_(who), left_(rounds), patience_(patience) {}
    bool done() const override { return left_ == 0; }
    bool ready() const override {
        return !waiter_ || acting_ || waiter_->settled() || patience_ != Patience::endless;
    }
    void step() override {
        Barrier& barrier = *scenario_.barrier;
        if (acting_) {
            acting_ = false;
            return went(barrier.end_action(meeting_, true) ? Status::ok : Status::broken, last_place());
        }
        if (waiter_) {
            if (patience_ == Patience::quits) {
                barrier.withdraw(entry_);
                return went(Status::interrupted, 0);
            }
            const Status status = barrier.finish(entry_);
            return went(status, waiter_->settlement().index);
        }
        waiter_.emplace(who_, "Barrier.wait", barrier.id());
        entry_.waiter = &*waiter_;
        const Barrier::Arrival arrival = barrier.arrive(entry_, who_);
        if (arrival.status == Status::parked) return;
        acting_ = arrival.status == Status::ok && arrival.acts;
        meeting_ = arrival.meeting;
        if (!acting_) went(arrival.status, last_place());
    }

   private:
    std::uint32_t last_place() const { return static_cast<std::uint32_t>(scenario_.barrier->parties() - 1); }
    void went(Status status, std::uint32_t place) {
        waiter_.reset();
        if (status == Status::retry) return;
        scenario_.history.outcomes.push_back(status);
        if (status == Status::ok) scenario_.history.places.push_back(place);
        --left_;
    }

    Scenario& scenario_;
    const OwnerId who_;
    int left_;
    const Patience patience_;
    bool acting_ = false;
    std::uint64_t meeting_ = 0;
    std::optional<Waiter> waiter_;
    Entry entry_;
};

std::vector<std::pair<Patience, Age>> ways() {
    std::vector<std::pair<Patience, Age>> all;
    for (const Patience patience : {Patience::endless, Patience::timed, Patience::quits}) {
        for (const Age age : {Age::fresh, Age::overdue}) all.emplace_back(patience, age);
    }
    return all;
}

}  // namespace

TEST(three_takers_of_a_lock) {
    for (const auto& [patience, age] : ways()) {
        const std::size_t count = explore<Scenario>(
            [&](Scenario& scenario) {
                scenario.age = age;
                scenario.lock = make<Lock>(false);
                scenario.take(scenario.lock, caller(1), 2, Patience::endless);
                scenario.take(scenario.lock, caller(2), 1, patience);
                scenario.take(scenario.lock, caller(3), 1, Patience::endless);
            },
            [&](Scenario& scenario) {
                CHECK(!scenario.lock->held());
                CHECK_EQ(scenario.history.inside, 0);
                CHECK_EQ(scenario.history.outcomes.size(), 4u);
                if (patience == Patience::endless) CHECK_EQ(scenario.history.count(Status::ok), 4);
            });
        CHECK(count > 100);
    }
}

TEST(the_holder_ends_amid_takers) {
    explore<Scenario>(
        [&](Scenario& scenario) {
            Interpreter& there = fresh();
            scenario.lock = make<Lock>(false);
            scenario.take(scenario.lock, {*there.owner, {9, 9}}, 1, Patience::endless);
            scenario.take(scenario.lock, caller(1), 1, Patience::endless);
            scenario.take(scenario.lock, caller(2), 1, Patience::endless);
            scenario.happen({[&there] { end(there); }});
        },
        [](Scenario& scenario) {
            const History& history = scenario.history;
            CHECK_EQ(history.outcomes.size(), 3u);
            CHECK(history.count(Status::abandoned) <= 1);
            // Those who stay get it, or are told; if the end came while nobody held it, there is nothing to
            // tell.
            CHECK(history.count(Status::ok) + history.count(Status::abandoned) >= 2);
            // Whatever was not told yet is told now, once.
            Status next = scenario.lock->try_acquire(caller(3));
            if (next == Status::abandoned) {
                CHECK_EQ(history.count(Status::abandoned), 0);
                next = scenario.lock->try_acquire(caller(3));
            }
            CHECK_EQ(next, Status::ok);
        });
}

TEST(a_semaphore_of_two) {
    for (const auto& [patience, age] : ways()) {
        explore<Scenario>(
            [&](Scenario& scenario) {
                scenario.age = age;
                scenario.semaphore = make<Semaphore>(0u, false);
                scenario.take(scenario.semaphore, caller(1), 1, Patience::endless);
                scenario.take(scenario.semaphore, caller(2), 1, patience);
                scenario.take(scenario.semaphore, caller(3), 1, Patience::endless);
                scenario.happen({[&] { CHECK_EQ(scenario.semaphore->release(2), Status::ok); }});
            },
            [&](Scenario& scenario) {
                CHECK_EQ(scenario.semaphore->value(), 2u);
                CHECK_EQ(scenario.history.outcomes.size(), 3u);
            });
    }
}

TEST(consumers_and_producers_at_a_condition) {
    explore<Scenario>(
        [&](Scenario& scenario) {
            scenario.lock = make<Lock>(false);
            scenario.condition = make<Condition>(scenario.lock);
            for (const std::uint64_t thread : {1u, 2u})
                scenario.actors.push_back(
                    std::make_unique<Consumer>(scenario, caller(thread), Patience::endless));
            for (const std::uint64_t thread : {3u, 4u})
                scenario.actors.push_back(std::make_unique<Producer>(scenario, caller(thread)));
        },
        [](Scenario& scenario) {
            CHECK_EQ(scenario.items, 0);
            CHECK_EQ(scenario.history.count(Status::ok), 2);
        });
}

// Whoever gives up takes no item that another waits for along: the notification goes on.
TEST(a_consumer_that_gives_up_at_a_condition) {
    for (const Patience patience : {Patience::timed, Patience::quits}) {
        explore<Scenario>(
            [&](Scenario& scenario) {
                scenario.lock = make<Lock>(false);
                scenario.condition = make<Condition>(scenario.lock);
                scenario.actors.push_back(std::make_unique<Consumer>(scenario, caller(1), patience));
                scenario.actors.push_back(std::make_unique<Consumer>(scenario, caller(2), Patience::endless));
                for (const std::uint64_t thread : {3u, 4u})
                    scenario.actors.push_back(std::make_unique<Producer>(scenario, caller(thread)));
            },
            [](Scenario& scenario) { CHECK_EQ(scenario.history.outcomes.size(), 2u); });
    }
}

TEST(three_parties_at_a_barrier_of_three) {
    for (const bool acts : {false, true}) {
        explore<Scenario>(
            [&](Scenario& scenario) {
                scenario.barrier = make<Barrier>(3u, acts);
                for (int i = 0; i < 3; ++i)
                    scenario.actors.push_back(
                        std::make_unique<Party>(scenario, caller(1).owner.id(), 1, Patience::endless));
            },
            [](Scenario& scenario) {
                CHECK_EQ(scenario.history.count(Status::ok), 3);
                std::ranges::sort(scenario.history.places);
                CHECK_EQ(scenario.history.places, (std::vector<std::uint32_t>{0, 1, 2}));
            });
    }
}

TEST(two_parties_meet_twice) {
    for (const bool acts : {false, true}) {
        explore<Scenario>(
            [&](Scenario& scenario) {
                scenario.barrier = make<Barrier>(2u, acts);
                for (int i = 0; i < 2; ++i)
                    scenario.actors.push_back(
                        std::make_unique<Party>(scenario, caller(1).owner.id(), 2, Patience::endless));
            },
            [](Scenario& scenario) { CHECK_EQ(scenario.history.count(Status::ok), 4); });
    }
}

// One meeting ends in one way for all.
TEST(a_barrier_that_is_broken_timed_out_reset_or_left_by_an_interpreter) {
    for (const bool acts : {false, true}) {
        for (const int how : {0, 1, 2, 3}) {
            explore<Scenario>(
                [&](Scenario& scenario) {
                    Interpreter& there = fresh();
                    scenario.barrier = make<Barrier>(2u, acts);
                    const OwnerId here = caller(1).owner.id();
                    const Patience patience = how == 0 ? Patience::timed : Patience::endless;
                    scenario.actors.push_back(std::make_unique<Party>(scenario, here, 1, patience));
                    scenario.actors.push_back(
                        std::make_unique<Party>(scenario, how == 3 ? there.id : here, 1, Patience::endless));
                    const auto abort = [&] { scenario.barrier->abort(); };
                    if (how == 1) scenario.happen({abort});
                    // Who comes alone afterwards would wait for ever.
                    if (how == 2) scenario.happen({[&] { scenario.barrier->reset(); }, abort});
                    if (how == 3) scenario.happen({[&there] { end(there); }, abort});
                },
                [](Scenario& scenario) {
                    const int together = scenario.history.count(Status::ok);
                    CHECK(together == 0 || together == 2);
                    CHECK_EQ(scenario.history.outcomes.size(), 2u);
                });
        }
    }
}

int main(int count, char** arguments) { return check::run(count, arguments); }
