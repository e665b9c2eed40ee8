#include "check.hpp"
#include "core/association.hpp"

using namespace memchannel;

TEST(an_unused_side_is_not_over) {
    Association side;
    CHECK(!side.over());
    CHECK(side.interpreters().empty());
}

TEST(use_associates) {
    Association side;
    CHECK(!side.joined(1));
    CHECK(side.join(1));
    CHECK(side.join(1));
    CHECK(side.join(2));
    CHECK(side.joined(1) && side.joined(2) && !side.joined(3));
    CHECK_EQ(side.interpreters(), (std::vector<OwnerId>{1, 2}));
    CHECK(!side.over());
}

TEST(the_last_close_ends_the_side_for_good) {
    Association side;
    side.join(1);
    side.join(2);
    CHECK(side.close(1));
    CHECK(!side.over());
    CHECK(side.close(2));
    CHECK(side.over());
    CHECK(!side.join(3));
    CHECK(side.over());
}

TEST(a_close_counts_even_if_unused) {
    Association side;
    CHECK(!side.close(1));
    CHECK(side.over());
    CHECK(side.closed_by(1));
}

TEST(a_close_by_a_stranger_leaves_the_side_to_the_others) {
    Association side;
    side.join(1);
    CHECK(!side.close(2));
    CHECK(!side.over());
    CHECK(side.close(1));
    CHECK(side.over());
}

TEST(close_is_for_good_and_tells_once) {
    Association side;
    side.join(1);
    side.join(2);
    CHECK(side.close(1));
    CHECK(!side.close(1));
    CHECK(side.closed_by(1) && !side.closed_by(2));
    CHECK(!side.join(1));
    CHECK(!side.joined(1));
    CHECK_EQ(side.interpreters(), std::vector<OwnerId>{2});
}

TEST(the_end_of_an_interpreter_counts_as_leaving) {
    Association side;
    side.join(1);
    side.join(2);
    side.end(1);
    CHECK(!side.over());
    CHECK(!side.joined(1));
    side.end(2);
    CHECK(side.over());
}

TEST(the_end_of_an_interpreter_that_never_used_the_side_changes_nothing) {
    Association side;
    side.end(1);
    CHECK(!side.over());
    side.join(2);
    side.end(1);
    CHECK(!side.over());
}

TEST(the_end_after_a_close_is_no_second_leaving) {
    Association side;
    side.join(1);
    side.join(2);
    side.close(1);
    side.end(1);
    CHECK(!side.over());
    CHECK_EQ(side.interpreters(), std::vector<OwnerId>{2});
    side.close(2);
    CHECK(side.over());
}

TEST(a_travelling_end_keeps_the_side) {
    Association side;
    side.packed();
    side.close(1);
    CHECK(!side.over());
    CHECK(side.join(2));  // whoever received it
    side.unpacked();
    CHECK(!side.over());
    side.close(2);
    CHECK(side.over());
}

TEST(a_travelling_end_that_nobody_receives_ends_the_side) {
    Association side;
    side.join(1);
    side.packed();
    side.packed();
    side.close(1);
    side.unpacked();
    CHECK(!side.over());
    side.unpacked();
    CHECK(side.over());
}

TEST(a_travelling_end_of_a_side_that_nobody_left_is_nothing) {
    Association side;
    side.packed();
    side.unpacked();
    CHECK(!side.over());
    CHECK(side.join(1));
}

TEST(an_end_sent_along_does_not_revive_a_side_that_is_over) {
    Association side;
    side.close(1);
    side.packed();
    CHECK(side.over());
    CHECK(!side.join(2));
    side.unpacked();
    CHECK(side.over());
}

int main(int count, char** arguments) { return check::run(count, arguments); }
