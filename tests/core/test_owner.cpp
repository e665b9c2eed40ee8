// Lent memory and its way back into the interpreter that lent it.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "blocking.hpp"

using namespace fake;

namespace {

OwnerTable& owners() { return registry().owners; }

// What changed since the object was made.
struct Change {
    LeaseCounts before = (host(), owners().counts());
    LeaseCounts now() const {
        LeaseCounts after = owners().counts();
        after.live -= before.live;
        after.lent -= before.lent;
        after.returned -= before.returned;
        after.abandoned -= before.abandoned;
        after.bytes_lent -= before.bytes_lent;
        return after;
    }
};

void until_dropped(const fake::Interpreter& interpreter, long references) {
    eventually([&] { return interpreter.dropped == references; });
}

std::vector<Warning> warnings_about(OwnerId owner) {
    std::vector<Warning> found;
    for (const Warning& one : host().warnings())
        if (one.owner == owner) found.push_back(one);
    return found;
}

}  // namespace

TEST(an_owner_is_enrolled_once) {
    fake::Interpreter& interpreter = host().create();
    CHECK(&owners().enroll(interpreter.id, &interpreter) == interpreter.owner);
    CHECK(owners().find(interpreter.id) == interpreter.owner);
    CHECK(owners().find(new_id()) == nullptr);
    CHECK(interpreter.owner->runtime() == &interpreter);
}

TEST(eager_leases_are_back_when_the_drop_returns) {
    fake::Interpreter& owner = host().create();
    fake::Interpreter& receiver = host().create();
    const Change change;
    Tally tally;
    LeaseRef lease;
    {
        const Attached attached(owner);
        lease = lend(owner, tally, false, 7);
    }
    CHECK_EQ(change.now().live, 1u);
    CHECK_EQ(change.now().bytes_lent, 8u);
    const Attached attached(receiver);
    const long entries = host().entries();
    lease.reset();
    CHECK_EQ(tally.given_back.load(), 1);
    CHECK_EQ(tally.destroyed.load(), 1);
    CHECK_EQ(host().entries(), entries + 1);
    CHECK_EQ(host().current(), receiver.id);
    CHECK_EQ(change.now().live, 0u);
    CHECK_EQ(change.now().returned, 1u);
}

TEST(eager_leases_come_back_from_a_thread_without_interpreter) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    lend(owner, tally).reset();
    CHECK_EQ(tally.given_back.load(), 1);
    CHECK_EQ(host().current(), no_owner);
}

TEST(at_home_a_lease_comes_back_without_a_switch) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    for (const bool deferred : {false, true}) {
        const long entries = host().entries();
        const Attached attached(owner);
        lend(owner, tally, deferred).reset();
        CHECK_EQ(tally.given_back.load(), deferred ? 2 : 1);
        CHECK_EQ(tally.destroyed.load(), deferred ? 2 : 1);
        CHECK_EQ(host().entries(), entries);
    }
}

TEST(an_eager_release_waits_for_a_busy_owner) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    std::atomic<bool> dropped{false};
    host().take(owner);
    std::thread dropping([&] {
        lease.reset();
        dropped = true;
    });
    eventually([] { return host().entering() == 1; });
    CHECK_EQ(tally.given_back.load(), 0);
    CHECK(!dropped);
    host().let_go();
    dropping.join();
    CHECK_EQ(tally.given_back.load(), 1);
}

TEST(deferred_leases_never_wait_and_come_back_in_batches) {
    fake::Interpreter& owner = host().create();
    const Change change;
    Tally tally;
    std::vector<LeaseRef> leases;
    for (int i = 0; i < 100; ++i) leases.push_back(lend(owner, tally, true));
    const long entries = host().entries();
    host().take(owner);  // a busy owner
    std::thread dropping([&] { leases.clear(); });
    dropping.join();  // the one who drops does not wait for it
    CHECK_EQ(tally.given_back.load(), 0);
    CHECK_EQ(change.now().live, 100u);
    host().let_go();
    eventually([&] { return tally.destroyed.load() == 100; });
    CHECK_EQ(tally.given_back.load(), 100);
    CHECK(host().entries() - entries <= 10);
    CHECK_EQ(change.now().live, 0u);
    CHECK_EQ(change.now().returned, 100u);
}

TEST(the_reaper_blocks_all_signals) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    lend(owner, tally, true).reset();
    eventually([&] { return tally.destroyed.load() == 1; });
    bool found = false;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream status(task.path() / "status");
        std::string line, name, blocked;
        while (std::getline(status, line)) {
            if (line.starts_with("Name:")) name = line.substr(6);
            if (line.starts_with("SigBlk:")) blocked = line.substr(8);
        }
        if (name != "memchannel-reap") continue;
        found = true;
        const unsigned long long mask = std::stoull(blocked, nullptr, 16);
        for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGCHLD}) CHECK(mask >> (signal - 1) & 1);
    }
    CHECK(found);
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, nullptr, &mine);
    CHECK(!sigismember(&mine, SIGINT));
}

TEST(one_reference_holds_the_interpreter_while_leases_are_out) {
    fake::Interpreter& owner = host().create();
    const long held = host().held();
    Tally tally;
    LeaseRef one = lend(owner, tally), two = lend(owner, tally), three = lend(owner, tally, true);
    CHECK_EQ(host().held(), held + 1);
    one.reset();
    two.reset();
    CHECK_EQ(owner.references.load(), 2);
    three.reset();
    until_dropped(owner, 1);  // on the reaper: the host checks it
    CHECK_EQ(owner.references.load(), 1);
    LeaseRef again = lend(owner, tally);
    CHECK_EQ(host().held(), held + 2);
    again.reset();
    until_dropped(owner, 2);
    CHECK(!owner.ended);
}

TEST(an_interpreter_that_only_leases_hold_ends_with_the_last_one) {
    fake::Interpreter& owner = host().create();
    fake::Interpreter& receiver = host().create();
    Tally tally;
    LeaseRef eager = lend(owner, tally), deferred = lend(owner, tally, true);
    host().unreference(owner);
    CHECK(!owner.ended);
    {
        const Attached attached(receiver);
        deferred.reset();
    }
    eventually([&] { return tally.destroyed.load() == 1; });
    CHECK(!owner.ended);
    {
        const Attached attached(receiver);
        eager.reset();
        CHECK_EQ(tally.given_back.load(), 2);
    }
    until_dropped(owner, 1);
    eventually([&] { return owner.ended.load(); });
    const Change change;
    Tally late;
    auto* const refused = new LentLease(*owner.owner, late, no_channel, false);
    CHECK(!owners().lend(*refused));
    CHECK_EQ(change.now().lent, 0u);
    const Attached attached(owner);
    refused->refuse();
}

TEST(a_chain_of_interpreters_ends_one_after_the_other) {
    // Each holds a view of the next one's memory, which ends with it.
    fake::Interpreter& first = host().create();
    fake::Interpreter& second = host().create();
    Tally tally;
    class Nested final : public OwnedLease {
       public:
        Nested(Owner& owner, LeaseRef inner) noexcept
            : OwnedLease(owner, 8, no_channel, false), inner_(std::move(inner)) {}
        void give_back() noexcept override {
            CHECK_EQ(host().current(), owner_id());
            inner_.reset();  // the exporter was itself a view of other memory
        }

       private:
        LeaseRef inner_;
    };
    LeaseRef inner = lend(second, tally);
    auto* const nested = new Nested(*first.owner, std::move(inner));
    CHECK(owners().lend(*nested));
    host().unreference(first);
    host().unreference(second);
    LeaseRef::adopt(nested).reset();
    CHECK_EQ(tally.given_back.load(), 1);
    eventually([&] { return first.ended.load() && second.ended.load(); });
}

TEST(the_reaper_does_not_wait_for_itself) {
    // An interpreter that made others waits for what is on its way before it ends them.
    fake::Interpreter& owner = host().create();
    std::atomic<bool> idle{false};
    owner.at_exit = [&] { idle = owners().await_idle(std::chrono::hours(1)); };
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    host().unreference(owner);
    lease.reset();
    eventually([&] { return owner.ended.load(); });
    CHECK(idle);
    CHECK(owners().await_idle(std::chrono::hours(1)));
}

TEST(no_reference_is_dropped_meanwhile) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    host().unreference(owner);
    {
        const OwnerTable::NoDrops guard(owners());
        const OwnerTable::NoDrops another(owners());
        lease.reset();  // wakes the reaper
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        CHECK(!owner.ended);
        CHECK(!owners().is_ending(owner.id));
        CHECK_EQ(owner.references.load(), 1);
        host().hold(*owner.owner);  // as a handle does
    }
    eventually([&] { return owner.references.load() == 1; });
    CHECK(!owner.ended);
    host().unreference(owner);
}

TEST(a_handle_holds_and_the_reaper_ends_what_nobody_holds) {
    fake::Interpreter& owner = host().create();
    fake::Interpreter& user = host().create();
    CHECK(owners().add_handle(owner.id));
    CHECK(owners().add_handle(owner.id));
    CHECK_EQ(owner.references.load(), 2);  // one for all handles
    host().unreference(owner);
    const Attached attached(user);
    owners().drop_handle(owner.id, true);
    CHECK(!owner.ended);
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    owners().drop_handle(owner.id, true);  // what is lent holds it still
    CHECK(!owner.ended);
    CHECK(owners().add_handle(owner.id));
    lease.reset();
    CHECK(!owner.ended);
    owners().drop_handle(owner.id, true);
    CHECK(owner.ended);  // it was waited for
    owners().drop_handle(owner.id, true);
    CHECK(!owners().add_handle(owner.id));
}

TEST(a_handle_may_be_there_before_the_interpreter_is_known) {
    fake::Interpreter owner;
    owner.id = new_id();
    CHECK(owners().add_handle(owner.id));
    CHECK(owners().add_handle(owner.id));
    owners().drop_handle(owner.id, true);
    owner.owner = &owners().enroll(owner.id, &owner);
    CHECK_EQ(owner.references.load(), 2);
    host().unreference(owner);
    fake::Interpreter& user = host().create();
    const Attached attached(user);
    owners().drop_handle(owner.id, true);
    CHECK(owner.ended);

    fake::Interpreter unheld;
    unheld.id = new_id();
    CHECK(owners().add_handle(unheld.id));
    owners().drop_handle(unheld.id, true);
    owners().drop_handle(unheld.id, true);
    unheld.owner = &owners().enroll(unheld.id, &unheld);
    CHECK_EQ(unheld.references.load(), 1);
}

TEST(an_end_that_lasts_holds_up_neither_leases_nor_who_lists) {
    fake::Interpreter& slow = host().create();
    fake::Interpreter& lender = host().create();
    std::atomic<bool> goes_on{false}, began{false};
    slow.at_exit = [&] {  // has not told that it ends: other callbacks come first
        began = true;
        eventually([&] { return goes_on.load(); });
    };
    CHECK(owners().add_handle(slow.id));
    host().unreference(slow);
    owners().drop_handle(slow.id, false);
    eventually([&] { return began.load(); });
    Tally tally;
    lend(lender, tally, true).reset();
    eventually([&] { return tally.destroyed.load() == 1; });
    {
        const OwnerTable::NoDrops guard(owners());
        CHECK(owners().is_ending(slow.id));
        CHECK(!owners().is_ending(lender.id));
    }
    CHECK(!slow.ended);
    goes_on = true;
    eventually([&] { return slow.ended.load(); });
}

TEST(one_thread_at_a_time_closes_an_interpreter) {
    fake::Interpreter& owner = host().create();
    {
        const OwnerTable::Closing one(owners(), owner.id);
        CHECK(one.is_first());
        for (int i = 0; i < 2; ++i) CHECK(!OwnerTable::Closing(owners(), owner.id).is_first());
        CHECK(OwnerTable::Closing(owners(), host().create().id).is_first());
        const OwnerId unknown = new_id();
        const OwnerTable::Closing other(owners(), unknown);
        CHECK(other.is_first());
        CHECK(!OwnerTable::Closing(owners(), unknown).is_first());
    }
    CHECK(OwnerTable::Closing(owners(), owner.id).is_first());
}

TEST(references_are_counted_on_what_is_alive_only) {
    fake::Interpreter& owner = host().create();
    const long counted = host().counted();
    CHECK(owners().end_with_references(owner.id));
    CHECK_EQ(host().counted(), counted + 1);
    host().end(owner);
    CHECK(!owners().end_with_references(owner.id));
    CHECK(!owners().end_with_references(new_id()));
    CHECK_EQ(host().counted(), counted + 1);
}

TEST(a_handle_that_goes_while_no_reference_is_dropped_is_not_waited_for) {
    fake::Interpreter& owner = host().create();
    fake::Interpreter& user = host().create();
    CHECK(owners().add_handle(owner.id));
    host().unreference(owner);
    {
        const OwnerTable::NoDrops guard(owners());
        const Attached attached(user);
        owners().drop_handle(owner.id, true);
        CHECK(!owner.ended);
    }
    eventually([&] { return owner.ended.load(); });
}

TEST(handles_go_while_others_list) {
    std::atomic<bool> done{false};
    fake::Interpreter& user = host().create();
    std::atomic<fake::Interpreter*> present{nullptr};
    std::vector<std::thread> listers;
    for (int i = 0; i < 2; ++i) {
        listers.emplace_back([&] {
            fake::Interpreter& home = host().create();
            while (!done) {
                OwnerId held = no_owner;
                {
                    const OwnerTable::NoDrops guard(owners());
                    fake::Interpreter* const one = present.load();
                    if (one && owners().add_handle(one->id)) held = one->id;
                }
                const Attached attached(home);
                if (held != no_owner) owners().drop_handle(held, false);
            }
        });
    }
    for (int i = 0; i < 200; ++i) {
        fake::Interpreter& owner = host().create();
        CHECK(owners().add_handle(owner.id));
        host().unreference(owner);
        present = &owner;
        {
            const Attached attached(user);
            owners().drop_handle(owner.id, true);
        }
        eventually([&] { return owner.ended.load(); });
    }
    done = true;
    for (std::thread& lister : listers) lister.join();
}

TEST(an_end_that_began_is_seen) {
    fake::Interpreter& owner = host().create();
    std::atomic<bool> goes_on{false}, began{false};
    owner.at_exit = [&] {
        owners().begin_end(*owner.owner);
        began = true;
        eventually([&] { return goes_on.load(); });
    };
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    host().unreference(owner);
    CHECK(!owners().is_ending(owner.id));
    lease.reset();
    eventually([&] { return began.load(); });
    {
        const OwnerTable::NoDrops guard(owners());  // does not wait for the whole end
        CHECK(owners().is_ending(owner.id));
    }
    goes_on = true;
    eventually([&] { return owner.ended.load(); });
    CHECK(owners().is_ending(owner.id));
    CHECK(!owners().is_ending(new_id()));
}

TEST(who_is_ending_is_held_no_more) {
    fake::Interpreter& owner = host().create();
    owners().begin_end(*owner.owner);
    const long held = host().held();
    Tally tally;
    lend(owner, tally).reset();
    CHECK_EQ(tally.given_back.load(), 1);
    CHECK_EQ(host().held(), held);
    CHECK(owners().await_idle(std::chrono::hours(1)));
    CHECK_EQ(owner.references.load(), 1);
}

TEST(a_forced_end_abandons_what_is_out_and_warns_once) {
    fake::Interpreter& owner = host().create();
    fake::Interpreter& receiver = host().create();
    const Change change;
    Tally tally;
    LeaseRef one = lend(owner, tally, false, 11), two = lend(owner, tally, true, 12),
             three = lend(owner, tally, false, 11);
    host().end(owner);
    CHECK_EQ(change.now().abandoned, 3u);
    CHECK_EQ(change.now().live, 0u);
    {
        const Attached attached(receiver);
        two.reset();
        const std::vector<Warning> warnings = warnings_about(owner.id);
        CHECK_EQ(warnings.size(), 1u);
        CHECK_EQ(warnings[0].leases, 3u);
        CHECK_EQ(warnings[0].channels, (std::vector<std::uint64_t>{11, 12}));
        CHECK_EQ(warnings[0].told_in, receiver.id);
        one.reset();
        three.reset();
    }
    CHECK_EQ(warnings_about(owner.id).size(), 1u);
    CHECK_EQ(tally.given_back.load(), 0);  // the memory is left standing
    CHECK_EQ(tally.destroyed.load(), 3);
    CHECK_EQ(change.now().abandoned, 3u);
    CHECK_EQ(owners().lent_by(owner.id).leases, 0u);
}

TEST(an_abandoned_lease_dropped_nowhere_leaves_the_warning_to_the_next) {
    fake::Interpreter& owner = host().create();
    fake::Interpreter& receiver = host().create();
    Tally tally;
    LeaseRef one = lend(owner, tally, false, 3), two = lend(owner, tally, false, 3);
    host().end(owner);
    one.reset();  // attached to nothing: nowhere to warn
    CHECK(warnings_about(owner.id).empty());
    const Attached attached(receiver);
    two.reset();
    CHECK_EQ(warnings_about(owner.id).size(), 1u);
    CHECK_EQ(warnings_about(owner.id)[0].leases, 1u);
}

TEST(what_waits_for_the_reaper_is_given_back_by_the_owners_end) {
    fake::Interpreter& owner = host().create();
    const Change change;
    Tally tally;
    std::vector<LeaseRef> leases;
    for (int i = 0; i < 50; ++i) leases.push_back(lend(owner, tally, true));
    std::thread dropping([&] { leases.clear(); });
    host().end(owner);
    dropping.join();
    // Each one is back, by whomever, or was dropped too late for that.
    const LeaseCounts now = change.now();
    CHECK_EQ(now.returned + now.abandoned, 50u);
    CHECK_EQ(tally.given_back.load(), static_cast<long>(now.returned));
    CHECK_EQ(tally.destroyed.load(), 50);
    CHECK_EQ(now.live, 0u);
}

TEST(the_owners_own_drops_come_back_even_after_its_end) {
    fake::Interpreter& owner = host().create();
    const Change change;
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    host().end(owner);
    CHECK_EQ(change.now().abandoned, 1u);
    host().take(owner);  // its modules are torn down with the thread attached
    lease.reset();
    host().let_go();
    CHECK_EQ(tally.given_back.load(), 1);
    CHECK_EQ(change.now().abandoned, 0u);
    CHECK_EQ(change.now().returned, 1u);
    CHECK(warnings_about(owner.id).empty());
}

TEST(an_end_waits_for_those_who_are_on_their_way) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    // Slow to give back: the end of the owner must wait, detached, until it is through.
    class Slow final : public OwnedLease {
       public:
        Slow(Owner& owner, Tally& tally, std::atomic<bool>& inside) noexcept
            : OwnedLease(owner, 8, no_channel, false), tally_(tally), inside_(inside) {}
        void give_back() noexcept override {
            inside_ = true;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            CHECK_EQ(host().current(), owner_id());
            ++tally_.given_back;
        }

       private:
        Tally& tally_;
        std::atomic<bool>& inside_;
    };
    std::atomic<bool> inside{false};
    auto* const slow = new Slow(*owner.owner, tally, inside);
    CHECK(owners().lend(*slow));
    std::thread dropping([&] { LeaseRef::adopt(slow).reset(); });
    eventually([&] { return inside.load(); });
    host().end(owner);
    CHECK_EQ(tally.given_back.load(), 1);
    dropping.join();
}

TEST(ending_twice_is_ending_once) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    const Change change;
    host().end(owner);
    host().end(owner);
    CHECK_EQ(change.now().abandoned, 1u);
    lease.reset();
}

TEST(an_entry_that_fails_is_tried_again_by_the_reaper) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    host().refuse_entries(3);
    lend(owner, tally, false).reset();
    lend(owner, tally, true).reset();
    eventually([&] { return tally.destroyed.load() == 2; });
    CHECK_EQ(tally.given_back.load(), 2);
}

TEST(an_entry_that_fails_is_made_up_for_by_the_owners_end) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    host().refuse_entries(1'000'000'000);
    lend(owner, tally, false).reset();
    CHECK_EQ(tally.given_back.load(), 0);
    host().end(owner);
    host().refuse_entries(0);
    CHECK_EQ(tally.given_back.load(), 1);
    CHECK_EQ(tally.destroyed.load(), 1);
}

TEST(who_lent_what_over_which_channel) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    std::vector<LeaseRef> leases;
    for (const std::uint64_t channel : {5u, 5u, 9u, 2u}) leases.push_back(lend(owner, tally, false, channel));
    const LentOut out = owners().lent_by(owner.id);
    CHECK_EQ(out.leases, 4u);
    CHECK(out.by_channel == (std::vector<std::pair<std::uint64_t, std::size_t>>{{2, 1}, {5, 2}, {9, 1}}));
    leases.clear();
    CHECK_EQ(owners().lent_by(owner.id).leases, 0u);
    CHECK_EQ(owners().lent_by(new_id()).leases, 0u);
}

TEST(waiting_for_all_to_be_back) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    Waiter early(1, "close", 0);
    Entry entry;
    entry.waiter = &early;
    CHECK(!owners().await_returned(*owner.owner, entry));
    LeaseRef one = lend(owner, tally), two = lend(owner, tally, true);
    CHECK(owners().await_returned(*owner.owner, entry));
    CHECK_EQ(early.wait(Deadline::after_ns(0), nullptr), Status::timeout);
    one.reset();
    CHECK_EQ(early.wait(Deadline::after_ns(0), nullptr), Status::timeout);
    two.reset();
    CHECK_EQ(early.wait(Deadline::never(), nullptr), Status::ok);
    owners().withdraw(*owner.owner, entry);
    CHECK_EQ(early.settlement().status, Status::ok);

    LeaseRef three = lend(owner, tally);
    Waiter given_up(1, "close", 0), ended(1, "close", 0);
    Entry first{&given_up}, second{&ended};
    CHECK(owners().await_returned(*owner.owner, first));
    CHECK(owners().await_returned(*owner.owner, second));
    owners().withdraw(*owner.owner, first);
    host().end(owner);
    CHECK(!given_up.settled());
    CHECK_EQ(ended.settlement().status, Status::ending);
    owners().withdraw(*owner.owner, second);
    CHECK(!owners().await_returned(*owner.owner, first));
}

TEST(visits_happen_attached_to_the_owner) {
    fake::Interpreter& owner = host().create();
    fake::Interpreter& home = host().create();
    OwnerId seen = no_owner;
    const auto look = [&] { seen = host().current(); };
    CHECK(owners().visit(*owner.owner, look));
    CHECK_EQ(seen, owner.id);
    CHECK_EQ(host().current(), no_owner);
    {
        const Attached attached(home);
        CHECK(owners().visit(*owner.owner, look));
        CHECK_EQ(host().current(), home.id);
        CHECK(owners().visit(*home.owner, look));
        CHECK_EQ(seen, home.id);
        host().refuse_entries(1);
        seen = no_owner;
        CHECK(!owners().visit(*owner.owner, look));
        CHECK_EQ(host().current(), home.id);
    }
    host().end(owner);
    CHECK(!owners().visit(*owner.owner, look));
    CHECK_EQ(seen, no_owner);
}

TEST(an_interpreter_that_is_kept_ends_afterwards) {
    fake::Interpreter& owner = host().create();
    std::thread ending;
    const bool kept = owners().keep(*owner.owner, [&] {
        CHECK_EQ(host().current(), no_owner);
        ending = std::thread([&] { host().end(owner); });
        while (owners().keep(*owner.owner, [] {})) std::this_thread::yield();  // its end has begun
        CHECK(!owner.ended);
    });
    CHECK(kept);
    ending.join();
    CHECK(owner.ended);
    CHECK(!owners().keep(*owner.owner, [] { FAIL("it has ended"); }));
}

// The last test: no switching happens in the process afterwards.
TEST(the_main_interpreters_end_stops_all_switching) {
    fake::Interpreter& main = host().create();
    fake::Interpreter& owner = host().create();
    fake::Interpreter& receiver = host().create();
    const Change change;
    Tally tally;
    LeaseRef eager = lend(owner, tally), deferred = lend(owner, tally, true), mine = lend(main, tally);
    host().end(main, true);
    const long entries = host().entries();
    {
        const Attached attached(receiver);
        eager.reset();
        deferred.reset();
        mine.reset();
    }
    CHECK_EQ(tally.given_back.load(), 0);
    CHECK_EQ(tally.destroyed.load(), 3);
    CHECK_EQ(change.now().abandoned, 3u);
    CHECK_EQ(host().entries(), entries);
    CHECK(warnings_about(owner.id).empty());  // at the end of the process nobody reads them
    auto* const refused = new LentLease(*owner.owner, tally, no_channel, false);
    CHECK(!owners().lend(*refused));
    host().take(owner);
    refused->refuse();
    host().let_go();
    CHECK(!owners().visit(*owner.owner, [] { FAIL("switched"); }));
    host().end(owner);  // and the others end in peace
    host().end(receiver);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
