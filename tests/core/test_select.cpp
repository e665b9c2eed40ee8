#include <algorithm>
#include <array>

#include "flavours.hpp"

using namespace fake;

namespace {

Status try_number(Channel& channel, OwnerId who, std::uint64_t number) {
    Message message = numbered(number);
    return channel.try_send(who, message);
}

std::vector<Select::Case> recv_cases(std::initializer_list<Handle<Channel>> channels) {
    std::vector<Select::Case> cases;
    for (const auto& channel : channels) cases.push_back(recv_case(channel));
    return cases;
}

std::vector<Select::Case> cases_of(Select::Case first, Select::Case second) {
    std::vector<Select::Case> cases;
    cases.push_back(std::move(first));
    cases.push_back(std::move(second));
    return cases;
}

}  // namespace

TEST(select_receives_what_is_there) {
    const OwnerId who = new_id();
    auto one = make_channel(), two = make_channel();
    CHECK_EQ(send_number(*two, who, 5), Status::ok);
    auto cases = recv_cases({one, two});
    std::uint32_t chosen = 99;
    CHECK_EQ(select(who, cases, chosen), Status::ok);
    CHECK_EQ(chosen, 1u);
    CHECK_EQ(number_of(cases[1].message), 5u);
    CHECK(!cases[0].message);
    CHECK_EQ(two->size(), 0u);
}

TEST(select_sends_where_there_is_room) {
    const OwnerId who = new_id();
    auto full = make_channel(1), free = make_channel(1);
    CHECK_EQ(send_number(*full, who, 1), Status::ok);
    auto cases = cases_of(send_case(full, 10), send_case(free, 20));
    std::uint32_t chosen = 99;
    CHECK_EQ(select(who, cases, chosen), Status::ok);
    CHECK_EQ(chosen, 1u);
    CHECK_EQ(number_of(cases[0].message), 10u);  // what was not sent is still the caller's
    CHECK(!cases[1].message);
    CHECK_EQ(recv_number(*free, who), 20u);
    CHECK_EQ(recv_number(*full, who), 1u);
    CHECK_EQ(full->size(), 0u);
}

FLAVOUR_TEST(a_parked_select_receives) {
    const OwnerId who = new_id(), sender = new_id();
    auto one = make_channel(capacity), two = make_channel(capacity);
    std::thread selecting([&] {
        auto cases = recv_cases({one, two});
        std::uint32_t chosen = 99;
        CHECK_EQ(select(who, cases, chosen), Status::ok);
        CHECK_EQ(chosen, 1u);
        CHECK_EQ(number_of(cases[1].message), 6u);
    });
    until_parked(1);
    CHECK_EQ(try_number(*two, sender, 6), Status::ok);
    selecting.join();
    CHECK_EQ(one->statistics().waiting_receivers, 0u);
    CHECK_EQ(two->statistics().waiting_receivers, 0u);
    CHECK_EQ(registry().waiters.size(), 0u);
}

FLAVOUR_TEST(a_parked_select_sends) {
    if (capacity == unlimited) return;
    const OwnerId who = new_id(), receiver = new_id();
    auto one = make_channel(capacity), two = make_channel(capacity);
    for (const auto& channel : {one, two}) {
        for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(send_number(*channel, receiver, i), Status::ok);
    }
    std::thread selecting([&] {
        auto cases = cases_of(send_case(one, 100), send_case(two, 200));
        std::uint32_t chosen = 99;
        CHECK_EQ(select(who, cases, chosen), Status::ok);
        CHECK_EQ(chosen, 0u);
        CHECK(!cases[0].message);
        CHECK_EQ(number_of(cases[1].message), 200u);
    });
    until_parked(1);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(recv_number(*one, receiver), i);
    CHECK_EQ(recv_number(*one, receiver), 100u);
    selecting.join();
    CHECK_EQ(two->statistics().waiting_senders, 0u);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(recv_number(*two, receiver), i);
    CHECK_EQ(two->size(), 0u);
}

FLAVOUR_TEST(select_times_out_and_leaves_nothing_behind) {
    const OwnerId who = new_id();
    auto in = make_channel(capacity), out = make_channel(capacity == unlimited ? 1 : capacity);
    for (std::size_t i = 0; i < out->traits().capacity; ++i) CHECK_EQ(send_number(*out, who, i), Status::ok);
    auto cases = cases_of(recv_case(in), send_case(out, 50));
    std::uint32_t chosen = 99;
    CHECK_EQ(select(who, cases, chosen, 1, in_ms(3)), Status::timeout);
    CHECK_EQ(number_of(cases[1].message), 50u);
    CHECK(!cases[0].message);
    CHECK_EQ(in->statistics().waiting_receivers, 0u);
    CHECK_EQ(out->statistics().waiting_senders, 0u);
    CHECK_EQ(registry().waiters.size(), 0u);
}

TEST(select_is_fair_among_the_ready) {
    const OwnerId who = new_id();
    std::array channels{make_channel(), make_channel(), make_channel()};
    std::array<int, 3> hits{};
    for (const auto& channel : channels)
        for (int i = 0; i < 3000; ++i) CHECK_EQ(send_number(*channel, who, 1), Status::ok);
    for (std::uint64_t i = 0; i < 3000; ++i) {
        auto cases = recv_cases({channels[0], channels[1], channels[2]});
        std::uint32_t chosen;
        CHECK_EQ(select(who, cases, chosen, i * 0x9e3779b97f4a7c15u), Status::ok);
        ++hits[chosen];
    }
    // 1000 each, standard deviation 26: ten of them is no accident.
    for (const int one : hits) CHECK(one > 740 && one < 1260);
}

// Those that stand behind idle cases are not favoured.
TEST(select_is_fair_among_the_ready_that_stand_together) {
    const OwnerId who = new_id();
    std::vector<Handle<Channel>> channels;
    for (int i = 0; i < 16; ++i) channels.push_back(make_channel());
    for (const std::size_t ready : {0U, 1U, 2U})
        for (int i = 0; i < 3000; ++i) CHECK_EQ(send_number(*channels[ready], who, 1), Status::ok);
    std::array<int, 3> hits{};
    for (std::uint64_t i = 0; i < 3000; ++i) {
        std::vector<Select::Case> cases;
        for (const auto& channel : channels) cases.push_back(recv_case(channel));
        std::uint32_t chosen;
        CHECK_EQ(select(who, cases, chosen, i * 0x9e3779b97f4a7c15u), Status::ok);
        CHECK(chosen < 3);
        ++hits[chosen];
    }
    for (const int one : hits) CHECK(one > 740 && one < 1260);
}

TEST(one_select_object_is_fair_from_try_to_try) {
    const OwnerId who = new_id();
    auto one = make_channel(), two = make_channel();
    auto cases = recv_cases({one, two});
    Select call(who, cases, 12345);
    std::array<int, 2> hits{};
    for (int i = 0; i < 1000; ++i) {
        CHECK_EQ(send_number(*one, who, 1), Status::ok);
        CHECK_EQ(send_number(*two, who, 2), Status::ok);
        std::uint32_t chosen;
        CHECK_EQ(call.try_now(chosen), Status::ok);
        ++hits[chosen];
        cases[chosen].message.reset();
        recv_number(chosen ? *one : *two, who);
    }
    CHECK(hits[0] > 340 && hits[1] > 340);
}

TEST(a_closed_end_is_chosen_with_its_outcome) {
    const OwnerId who = new_id(), sender = new_id();
    auto quiet = make_channel(), over = make_channel(), closed = make_channel(), poisoned = make_channel();
    over->associate(Side::send, sender);
    over->close(Side::send, sender);
    closed->close(Side::recv, who);
    poisoned->poison({});
    const std::array<std::pair<Handle<Channel>, Status>, 3> endings{
        {{over, Status::ended}, {closed, Status::closed}, {poisoned, Status::poisoned}}};
    for (const auto& [channel, outcome] : endings) {
        auto cases = recv_cases({quiet, channel});
        std::uint32_t chosen = 99;
        CHECK_EQ(select(who, cases, chosen), outcome);
        CHECK_EQ(chosen, 1u);
    }
    auto broken = make_channel();
    broken->close(Side::recv, sender);
    auto cases = cases_of(recv_case(quiet), send_case(broken, 5));
    std::uint32_t chosen = 99;
    CHECK_EQ(select(who, cases, chosen), Status::broken);
    CHECK_EQ(chosen, 1u);
    CHECK_EQ(number_of(cases[1].message), 5u);
}

FLAVOUR_TEST(a_channel_that_ends_decides_a_parked_select) {
    for (const Status expected : {Status::ended, Status::closed, Status::poisoned}) {
        const OwnerId who = new_id(), sender = new_id();
        auto quiet = make_channel(capacity), ending = make_channel(capacity);
        ending->associate(Side::send, sender);
        std::thread selecting([&] {
            auto cases = recv_cases({quiet, ending});
            std::uint32_t chosen = 99;
            CHECK_EQ(select(who, cases, chosen), expected);
            CHECK_EQ(chosen, 1u);
        });
        until_parked(1);
        if (expected == Status::ended) ending->close(Side::send, sender);
        if (expected == Status::closed) ending->close(Side::recv, who);
        if (expected == Status::poisoned) ending->poison({});
        selecting.join();
        CHECK_EQ(quiet->statistics().waiting_receivers, 0u);
    }
}

TEST(an_ending_interpreter_decides_its_selects) {
    fake::Interpreter& interpreter = host().create();
    auto one = make_channel(), full = make_channel(1);
    CHECK_EQ(send_number(*full, new_id(), 1), Status::ok);
    std::thread selecting([&] {
        auto cases = cases_of(recv_case(one), send_case(full, 3));
        std::uint32_t chosen;
        CHECK_EQ(select(interpreter.id, cases, chosen), Status::ending);
    });
    until_parked(1);
    host().unreference(interpreter);
    selecting.join();
    CHECK_EQ(one->statistics().waiting_receivers, 0u);
    CHECK_EQ(full->statistics().waiting_senders, 0u);
}

// --- the same channel more than once
// -----------------------------------------------------------------------------

FLAVOUR_TEST(a_select_does_not_meet_itself) {
    const OwnerId who = new_id(), other = new_id();
    auto channel = make_channel(capacity);
    for (std::size_t i = 0; capacity != unlimited && i < capacity; ++i)
        CHECK_EQ(send_number(*channel, who, i), Status::ok);
    if (capacity == 0) {
        // Only itself on both sides of a rendezvous: nothing happens.
        auto cases = cases_of(recv_case(channel), send_case(channel, 1));
        std::uint32_t chosen;
        CHECK_EQ(select(who, cases, chosen, 1, in_ms(2)), Status::timeout);
        CHECK_EQ(number_of(cases[1].message), 1u);
        cases = cases_of(send_case(channel, 1), recv_case(channel));
        CHECK_EQ(select(who, cases, chosen, 1, in_ms(2)), Status::timeout);
        std::thread selecting([&] {
            CHECK_EQ(select(who, cases, chosen), Status::ok);
            CHECK_EQ(chosen, 1u);
        });
        until_parked(1);
        CHECK_EQ(try_number(*channel, other, 9), Status::ok);
        selecting.join();
        CHECK_EQ(number_of(cases[1].message), 9u);
        return;
    }
    // Elsewhere it may well take out what it could have put in: one of the two happens.
    auto cases = cases_of(recv_case(channel), send_case(channel, 1000));
    std::uint32_t chosen;
    const std::size_t before = channel->size();
    CHECK_EQ(select(who, cases, chosen), Status::ok);
    CHECK_EQ(channel->size(), chosen == 0 ? before - 1 : before + 1);
}

FLAVOUR_TEST(a_channel_twice_gives_one_message) {
    const OwnerId who = new_id(), sender = new_id();
    auto channel = make_channel(capacity);
    std::thread selecting([&] {
        auto cases = recv_cases({channel, channel, channel});
        std::uint32_t chosen = 99;
        CHECK_EQ(select(who, cases, chosen), Status::ok);
        CHECK_EQ(number_of(cases[chosen].message), 1u);
        for (std::uint32_t i = 0; i < 3; ++i) CHECK_EQ(static_cast<bool>(cases[i].message), i == chosen);
    });
    until_parked(1);
    CHECK_EQ(try_number(*channel, sender, 1), Status::ok);
    selecting.join();
    CHECK_EQ(channel->statistics().waiting_receivers, 0u);
    Message message = numbered(2);
    CHECK_EQ(channel->try_send(sender, message), capacity ? Status::ok : Status::full);
}

FLAVOUR_TEST(a_channel_twice_sends_one_message) {
    if (capacity == unlimited) return;
    const OwnerId who = new_id(), receiver = new_id();
    auto channel = make_channel(capacity);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(send_number(*channel, receiver, i), Status::ok);
    std::thread selecting([&] {
        auto cases = cases_of(send_case(channel, 100), send_case(channel, 200));
        std::uint32_t chosen = 99;
        CHECK_EQ(select(who, cases, chosen), Status::ok);
        CHECK(!cases[chosen].message);
        CHECK_EQ(number_of(cases[1 - chosen].message), chosen ? 100u : 200u);
    });
    until_parked(1);
    for (std::size_t i = 0; i < capacity; ++i) CHECK_EQ(recv_number(*channel, receiver), i);
    const std::uint64_t sent = recv_number(*channel, receiver);
    CHECK(sent == 100 || sent == 200);
    selecting.join();
    Message message;
    CHECK_EQ(channel->try_recv(receiver, message), Status::empty);
    CHECK_EQ(channel->statistics().waiting_senders, 0u);
}

// --- selects on both sides
// ------------------------------------------------------------------------------------------

TEST(two_selects_meet_in_a_rendezvous) {
    const OwnerId one = new_id(), two = new_id();
    for (int round = 0; round < 300; ++round) {
        auto a = make_channel(0), b = make_channel(0);
        std::uint32_t first_chose = 99, second_chose = 99;
        std::uint64_t first_got = 0, second_got = 0;
        std::thread first([&] {
            auto cases = cases_of(send_case(a, 1), recv_case(b));
            CHECK_EQ(select(one, cases, first_chose, static_cast<std::uint64_t>(round) * 77), Status::ok);
            if (first_chose == 1) first_got = number_of(cases[1].message);
        });
        auto cases = cases_of(recv_case(a), send_case(b, 2));
        CHECK_EQ(select(two, cases, second_chose, static_cast<std::uint64_t>(round) * 1313), Status::ok);
        if (second_chose == 0) second_got = number_of(cases[0].message);
        first.join();
        CHECK_EQ(first_chose, second_chose);  // the same channel, its other side
        CHECK_EQ(first_got, first_chose == 1 ? 2u : 0u);
        CHECK_EQ(second_got, second_chose == 0 ? 1u : 0u);
        CHECK_EQ(a->size() + b->size(), 0u);
    }
}

FLAVOUR_TEST(every_message_is_selected_once) {
    constexpr std::uint64_t count = 1000;
    std::array channels{make_channel(capacity), make_channel(capacity), make_channel(capacity)};
    const OwnerId sender = new_id();
    for (const auto& channel : channels) channel->associate(Side::send, sender);
    std::vector<std::thread> threads;
    std::array<std::vector<std::uint64_t>, 3> got;
    for (std::size_t r = 0; r < got.size(); ++r) {
        threads.emplace_back([&, r] {
            const OwnerId self = new_id();
            std::vector<Handle<Channel>> open(channels.begin(), channels.end());
            for (std::uint64_t seed = r + 1; !open.empty(); seed += 3) {
                std::vector<Select::Case> cases;
                for (const auto& channel : open) cases.push_back(recv_case(channel));
                std::uint32_t chosen;
                const Status status = select(self, cases, chosen, seed * 0x9e3779b97f4a7c15u);
                if (status == Status::ended) open.erase(open.begin() + chosen);
                else got[r].push_back(number_of(cases[chosen].message));
            }
        });
    }
    std::thread sending([&] {
        for (std::uint64_t i = 0; i < count; ++i) {
            // Where there is room: also as a select.
            std::vector<Select::Case> cases;
            for (const auto& channel : channels) cases.push_back(send_case(channel, i));
            std::uint32_t chosen;
            CHECK_EQ(select(sender, cases, chosen, i * 0x9e3779b97f4a7c15u), Status::ok);
        }
        for (const auto& channel : channels) channel->close(Side::send, sender);
    });
    sending.join();
    for (auto& thread : threads) thread.join();
    std::vector<std::uint64_t> all;
    for (const auto& list : got) all.insert(all.end(), list.begin(), list.end());
    std::sort(all.begin(), all.end());
    CHECK_EQ(all.size(), count);
    for (std::uint64_t i = 0; i < count; ++i) CHECK_EQ(all[i], i);
}

// --- giving up
// ----------------------------------------------------------------------------------------------------------

FLAVOUR_TEST(a_select_that_gives_up_passes_its_grant_on) {
    const OwnerId who = new_id(), sender = new_id();
    auto one = make_channel(capacity), two = make_channel(capacity);
    auto cases = recv_cases({one, two});
    std::uint32_t chosen = 99;
    {
        Select call(who, cases, 1);
        CHECK_EQ(call.try_now(chosen), Status::empty);
        CHECK_EQ(call.enlist(chosen), Status::parked);
        CHECK_EQ(try_number(*two, sender, 4), Status::ok);
        CHECK(!call.give_up(chosen));
    }
    CHECK_EQ(recv_number(*two, who), 4u);
    CHECK_EQ(one->statistics().waiting_receivers, 0u);
}

TEST(a_select_that_gives_up_says_what_it_sent) {
    const OwnerId who = new_id(), receiver = new_id();
    auto in = make_channel(), out = make_channel(0);
    auto cases = cases_of(recv_case(in), send_case(out, 8));
    std::uint32_t chosen = 99;
    Select call(who, cases, 1);
    CHECK_EQ(call.try_now(chosen), Status::empty);
    CHECK_EQ(call.enlist(chosen), Status::parked);
    CHECK_EQ(recv_number(*out, receiver), 8u);
    CHECK(call.give_up(chosen));
    CHECK_EQ(chosen, 1u);
}

FLAVOUR_TEST(a_select_object_that_goes_gives_all_up) {
    const OwnerId who = new_id(), sender = new_id();
    auto in = make_channel(capacity), out = make_channel(0);
    auto cases = cases_of(recv_case(in), send_case(out, 8));
    {
        std::uint32_t chosen;
        Select call(who, cases, 1);
        CHECK_EQ(call.enlist(chosen), Status::parked);
        CHECK_EQ(try_number(*in, sender, 4), Status::ok);
    }
    CHECK_EQ(recv_number(*in, who), 4u);
    CHECK_EQ(number_of(cases[1].message), 8u);
    CHECK_EQ(out->statistics().waiting_senders, 0u);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
