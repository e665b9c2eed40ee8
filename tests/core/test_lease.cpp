#include <thread>

#include "fake_host.hpp"

using namespace fake;

TEST(the_last_holder_ends_a_lease) {
    host();
    Tally tally;
    LeaseRef first = counted(tally);
    CHECK_EQ(first->holders(), 1);
    LeaseRef second = first;
    CHECK_EQ(first->holders(), 2);
    first.reset();
    CHECK_EQ(tally.destroyed.load(), 0);
    second.reset();
    CHECK_EQ(tally.destroyed.load(), 1);
}

TEST(handles_assign_to_themselves_and_swap) {
    host();
    Tally tally;
    LeaseRef one = counted(tally), two = counted(tally);
    LeaseRef& alias = one;
    one = alias;
    CHECK_EQ(one->holders(), 1);
    one = two;
    CHECK_EQ(tally.destroyed.load(), 1);
    CHECK_EQ(two->holders(), 2);
    one = std::move(two);
    CHECK(!two);
    CHECK_EQ(one->holders(), 1);
    Lease* const raw = one.release();
    CHECK(!one);
    CHECK_EQ(tally.destroyed.load(), 1);
    LeaseRef::adopt(raw).reset();
    CHECK_EQ(tally.destroyed.load(), 2);
}

TEST(what_holders_did_happens_before_the_end) {
    host();
    // Each thread writes a plain field of its own before it drops; the last drop reads them all. A missing
    // barrier is a data race that ThreadSanitizer reports.
    class Watched final : public Lease {
       public:
        OwnerId owner_id() const noexcept override { return no_owner; }
        int seen[4] = {};
        int* sum = nullptr;

       private:
        void ended() noexcept override {
            for (const int one : seen) *sum += one;
            delete this;
        }
    };
    for (int round = 0; round < 200; ++round) {
        int sum = 0;
        auto* const watched = new Watched;
        watched->sum = &sum;
        for (int i = 0; i < 4; ++i) watched->retain();
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([watched, i] {
                watched->seen[i] = i + 1;
                watched->drop();
            });
        }
        watched->drop();
        for (auto& thread : threads) thread.join();
        CHECK_EQ(sum, 10);
    }
}

TEST(try_retain_fails_from_the_last_drop_on) {
    class Kept final : public Object {
       public:
        void last_drop() noexcept override { CHECK(!try_retain()); }  // and stays, to be looked at
        ~Kept() override = default;
    };
    Kept kept;
    CHECK(kept.try_retain());
    CHECK_EQ(kept.references(), 2);
    kept.drop();
    kept.drop();
    CHECK(!kept.try_retain());
    CHECK_EQ(kept.references(), 0);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
