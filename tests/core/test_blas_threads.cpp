#include <algorithm>

#include "check.hpp"
#include "core/blas_threads.hpp"

using namespace memchannel;

namespace {

int g_number = 0;
int g_sets = 0;
int get() { return g_number; }
void set(long number) {
    g_number = static_cast<int>(number);
    ++g_sets;
}

int g_capped = 0;
int get_capped() { return g_capped; }
void set_capped(long number) { g_capped = static_cast<int>(std::min(number, 64L)); }

int g_other = 0;
int get_other() { return g_other; }
void set_other(long number) { g_other = static_cast<int>(number); }

}  // namespace

TEST(a_library_is_limited_while_tasks_run) {
    g_number = 8;
    BlasThreads all;
    all.add(get, set);
    CHECK_EQ(g_number, 8);
    all.enter({2, false});
    CHECK_EQ(g_number, 2);
    all.enter({2, false});
    all.leave({2, false});
    CHECK_EQ(g_number, 2);
    all.leave({2, false});
    CHECK_EQ(g_number, 8);
}

TEST(a_share_does_not_raise_a_number_unless_it_may) {
    g_number = 1;
    BlasThreads all;
    all.add(get, set);
    all.enter({4, false});
    CHECK_EQ(g_number, 1);
    all.leave({4, false});
    all.enter({4, true});
    CHECK_EQ(g_number, 4);
    all.leave({4, true});
    CHECK_EQ(g_number, 1);
}

TEST(a_library_that_takes_less_than_was_asked_for_is_put_back_all_the_same) {
    g_capped = 2;
    g_number = 2;
    BlasThreads all;
    all.add(get_capped, set_capped);
    all.add(get, set);
    all.enter({1000, true});
    CHECK_EQ(g_capped, 64);
    CHECK_EQ(g_number, 1000);
    all.enter({1000, true});
    all.leave({1000, true});
    all.leave({1000, true});
    CHECK_EQ(g_capped, 2);
    CHECK_EQ(g_number, 2);
}

TEST(the_smallest_share_holds) {
    g_number = 8;
    BlasThreads all;
    all.add(get, set);
    all.enter({4, true});
    all.enter({3, false});
    CHECK_EQ(g_number, 3);
    all.enter({16, true});
    CHECK_EQ(g_number, 3);
    all.leave({3, false});
    CHECK_EQ(g_number, 4);
    all.leave({4, true});
    CHECK_EQ(g_number, 16);
    all.leave({16, true});
    CHECK_EQ(g_number, 8);
}

TEST(a_library_that_comes_while_tasks_run_is_limited_at_once) {
    g_number = 8;
    g_other = 6;
    BlasThreads all;
    all.enter({2, false});
    all.add(get, set);
    all.add(get_other, set_other);
    CHECK_EQ(g_number, 2);
    CHECK_EQ(g_other, 2);
    all.leave({2, false});
    CHECK_EQ(g_number, 8);
    CHECK_EQ(g_other, 6);
}

TEST(a_library_is_added_once_and_set_only_where_it_changes) {
    g_number = 8;
    g_sets = 0;
    BlasThreads all;
    all.add(get, set);
    all.enter({2, false});
    all.add(get, set);
    all.enter({2, false});
    CHECK_EQ(g_sets, 1);
    all.leave({2, false});
    all.leave({2, false});
    CHECK_EQ(g_sets, 2);
    CHECK_EQ(g_number, 8);
}

TEST(somebody_elses_change_is_left_alone) {
    g_number = 8;
    BlasThreads all;
    all.add(get, set);
    all.enter({2, false});
    g_number = 5;
    all.leave({2, false});
    CHECK_EQ(g_number, 5);
    all.enter({2, false});
    CHECK_EQ(g_number, 2);
    all.leave({2, false});
    CHECK_EQ(g_number, 5);
}

TEST(a_claim_ends_with_its_scope) {
    g_number = 8;
    BlasThreads all;
    all.add(get, set);
    {
        BlasClaim claim(all, {2, false});
        CHECK(!claim.entered());
        claim.enter();
        claim.enter();
        CHECK(claim.entered());
        CHECK_EQ(g_number, 2);
    }
    CHECK_EQ(g_number, 8);
    BlasClaim none(all, {0, false});
    none.enter();
    CHECK(!none.entered());
    CHECK_EQ(g_number, 8);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
