// What is global: looking channels up, collecting unreachable ones, forked children.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "blocking.hpp"

using namespace fake;

namespace {

ChannelTable& table() {
    host();
    return registry().channels;
}

// Queues an end of one channel in another.
void put_end(Channel& carrier, const Handle<Channel>& channel, Side side = Side::both, LeaseRef lease = {}) {
    Message message = numbered(0, std::move(lease));
    message.add_rider(Handle<Channel>(channel), side);
    CHECK_EQ(carrier.try_send(1'000'000, message), Status::ok);
}

}  // namespace

// --- forked children; first, while the process has one thread
// -----------------------------------------------------

TEST(a_forked_child_owns_nothing_of_its_parent) {
    fake::Interpreter& owner = host().create();
    Tally tally;
    LeaseRef lease = lend(owner, tally);
    Handle<Channel> channel = make_channel(), outer = make_channel();
    Message message = numbered(1, lend(owner, tally));
    CHECK_EQ(channel->try_send(1, message), Status::ok);
    put_end(*outer, channel);
    const Registry* const parents = &registry();
    const std::uint64_t token = registry().process_token;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(&registry() != parents);
        CHECK(registry().process_token != token);
        CHECK_EQ(registry().generation, parents->generation + 1);
        CHECK(!channel->of_this_process());
        CHECK_EQ(registry().channels.size(), 0u);
        CHECK(!registry().channels.find(channel->id()));
        CHECK_EQ(registry().owners.counts().live, 0u);
        lease.reset();  // freed, not given back
        CHECK_EQ(tally.given_back.load(), 0);
        CHECK_EQ(tally.destroyed.load(), 1);
        channel.reset();
        outer.reset();
        CHECK_EQ(registry().owners.counts().returned, 0u);
        // A life of its own: the same owner enrolls anew, channels work.
        fake::Interpreter& mine = host().create();
        Handle<Channel> fresh = make_channel();
        CHECK(fresh->of_this_process());
        message = numbered(2, lend(mine, tally));
        CHECK_EQ(fresh->try_send(1, message), Status::ok);
        fresh.reset();
        CHECK_EQ(tally.given_back.load(), 1);
        std::_Exit(0);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(channel->of_this_process());
    lease.reset();
    CHECK_EQ(recv_number(*channel, 1), 1u);
    CHECK_EQ(tally.given_back.load(), 2);
}

TEST(a_grandchild_is_told_from_its_parent_too) {
    const unsigned generation = registry().generation;
    const pid_t child = fork();
    if (child == 0) {
        Handle<Channel> channel = make_channel();
        const pid_t grandchild = fork();
        if (grandchild == 0) {
            CHECK_EQ(registry().generation, generation + 2);
            CHECK(!channel->of_this_process());
            std::_Exit(0);
        }
        int status = -1;
        CHECK_EQ(waitpid(grandchild, &status, 0), grandchild);
        CHECK_EQ(status, 0);
        CHECK(channel->of_this_process());
        std::_Exit(0);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

TEST(a_spinner_of_the_parent_takes_no_place_in_its_child) {
    host();
    cpu_set_t before, one;
    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);  // the child's too
    const int place = detail::begin_spinning();
    CHECK(place != detail::nowhere);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQ(detail::begin_spinning(), place);
        std::_Exit(0);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(detail::begin_spinning(), detail::nowhere);
    detail::end_spinning(place);
    CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

// --- the table
// --------------------------------------------------------------------------------------------------------

TEST(channels_are_found_by_id_as_long_as_they_live) {
    const std::size_t before = table().size();
    Handle<Channel> one = make_channel(), two = make_channel();
    CHECK(one->id() != two->id());
    CHECK_EQ(table().size(), before + 2);
    CHECK(table().find(one->id()).get() == one.get());
    CHECK(!table().find(0));
    CHECK(!table().find(two->id() + 1000));
    const std::uint64_t id = one->id();
    CHECK_EQ(one->references(), 1);
    one.reset();
    CHECK(!table().find(id));
    CHECK_EQ(table().size(), before + 1);
}

TEST(all_channels_come_by_rising_id) {
    std::vector<Handle<Channel>> mine;
    for (int i = 0; i < 100; ++i) mine.push_back(make_channel());
    for (std::size_t i = 0; i < mine.size(); i += 3) mine[i].reset();
    std::vector<std::uint64_t> expected, found;
    for (const auto& channel : mine)
        if (channel) expected.push_back(channel->id());
    for (const auto& channel : table().all()) found.push_back(channel->id());
    CHECK_EQ(found, expected);
    // Many at a time leave and come back without trace.
    const std::size_t size = table().size();
    mine.clear();
    CHECK_EQ(table().size(), size - expected.size());
}

TEST(looking_up_races_with_the_last_drop) {
    for (int round = 0; round < 300; ++round) {
        Handle<Channel> channel = make_channel();
        const std::uint64_t id = channel->id();
        Tally tally;
        Message message = numbered(3, counted(tally));
        CHECK_EQ(channel->try_send(1, message), Status::ok);
        std::atomic<bool> go{false};
        std::atomic<int> received{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i) {
            threads.emplace_back([&] {
                while (!go) {
                }
                while (Handle<Channel> found = table().find(id)) {
                    Message got;
                    if (found->try_recv(1, got) == Status::ok) ++received;
                }
            });
        }
        threads.emplace_back([&] {
            while (!go) {
            }
            for (const auto& found : table().all()) static_cast<void>(found->size());
        });
        go = true;
        channel.reset();
        for (auto& thread : threads) thread.join();
        CHECK(!table().find(id));
        CHECK_EQ(tally.destroyed.load(), 1);
        CHECK(received <= 1);
    }
}

// --- the collection
// ---------------------------------------------------------------------------------------------------

TEST(a_channel_in_its_own_queue_is_collected) {
    const std::size_t before = table().size();
    Tally tally;
    std::uint64_t id;
    {
        Handle<Channel> channel = make_channel();
        id = channel->id();
        put_end(*channel, channel, Side::both, counted(tally));
        CHECK_EQ(table().collect(), 0u);  // we still have it
        CHECK_EQ(channel->size(), 1u);
    }
    CHECK(table().find(id));
    CHECK_EQ(table().collect(), 1u);
    CHECK(!table().find(id));
    CHECK_EQ(tally.destroyed.load(), 1);
    CHECK_EQ(table().size(), before);
    CHECK_EQ(table().collect(), 0u);
}

TEST(rings_are_collected_with_what_hangs_on_them) {
    const std::size_t before = table().size();
    Tally tally;
    {
        std::vector<Handle<Channel>> ring;
        for (int i = 0; i < 10; ++i) ring.push_back(make_channel());
        for (std::size_t i = 0; i < ring.size(); ++i) put_end(*ring[i], ring[(i + 1) % ring.size()]);
        // Channels that only the ring leads to, and a plain message in one of them.
        Handle<Channel> tail = make_channel(), last = make_channel();
        put_end(*ring[3], tail, Side::recv);
        put_end(*tail, last, Side::send);
        Message message = numbered(1, counted(tally));
        CHECK_EQ(last->try_send(1, message), Status::ok);
    }
    CHECK_EQ(table().size(), before + 12);
    CHECK_EQ(table().collect(), 12u);
    CHECK_EQ(table().size(), before);
    CHECK_EQ(tally.destroyed.load(), 1);
}

TEST(a_ring_with_an_outside_reference_stays) {
    const std::size_t before = table().size();
    for (std::size_t kept = 0; kept < 5; ++kept) {
        Handle<Channel> outside;
        {
            std::vector<Handle<Channel>> ring;
            for (int i = 0; i < 5; ++i) ring.push_back(make_channel());
            for (std::size_t i = 0; i < ring.size(); ++i) put_end(*ring[i], ring[(i + 1) % ring.size()]);
            outside = ring[kept];
        }
        CHECK_EQ(table().collect(), 0u);
        CHECK_EQ(table().size(), before + 5);
        // What is kept is whole: the ring can be walked.
        Handle<Channel> at = outside;
        for (int i = 0; i < 5; ++i) {
            Message message;
            CHECK_EQ(at->try_recv(1, message), Status::ok);
            at = Handle<Channel>::share(static_cast<Channel*>(&message.riders()[0].object()));
            CHECK_EQ(at->try_send(1, message), Status::ok);
        }
        CHECK(at.get() == outside.get());
        at.reset();
        outside.reset();
        table().collect();
        CHECK_EQ(table().size(), before);
    }
}

TEST(what_a_reached_channel_leads_to_stays) {
    const std::size_t before = table().size();
    Handle<Channel> outside = make_channel();
    {
        Handle<Channel> a = make_channel(), b = make_channel();
        put_end(*outside, a);
        put_end(*a, b);
        put_end(*b, a);  // a cycle, but one that the outside leads to
    }
    CHECK_EQ(table().collect(), 0u);
    CHECK_EQ(table().size(), before + 3);
    outside.reset();
    CHECK_EQ(table().collect(), 2u);
    CHECK_EQ(table().size(), before);
}

TEST(a_message_in_hand_keeps_what_it_carries) {
    const std::size_t before = table().size();
    Handle<Channel> channel = make_channel();
    put_end(*channel, channel);
    Message message;
    CHECK_EQ(channel->try_recv(1, message), Status::ok);
    channel.reset();
    CHECK_EQ(table().collect(), 0u);
    CHECK_EQ(table().size(), before + 1);
    message.reset();
    CHECK_EQ(table().size(), before);
}

TEST(a_waiting_senders_message_keeps_what_it_carries) {
    const std::size_t before = table().size();
    Handle<Channel> line = make_channel(1), ring = make_channel();
    CHECK_EQ(send_number(*line, 1, 1), Status::ok);
    put_end(*ring, ring);
    std::thread sending([&] {
        Message message = numbered(2);
        message.add_rider(std::move(ring), Side::both);
        CHECK_EQ(send(*line, 1, message), Status::ok);
    });
    until_waiting(*line, 0, 1);
    CHECK_EQ(table().collect(), 0u);
    recv_number(*line, 1);
    sending.join();
    line.reset();
    CHECK_EQ(table().collect(), 1u);
    CHECK_EQ(table().size(), before);
}

TEST(random_graphs_are_collected_as_reachability_says) {
    std::mt19937 random(7);
    for (int round = 0; round < 300; ++round) {
        const std::size_t before = table().size();
        const std::size_t count = 1 + random() % 12;
        std::vector<Handle<Channel>> channels;
        std::vector<std::vector<std::size_t>> leads(count);
        for (std::size_t i = 0; i < count; ++i) channels.push_back(make_channel());
        for (std::size_t edges = random() % (2 * count); edges-- > 0;) {
            const std::size_t from = random() % count, to = random() % count;
            leads[from].push_back(to);
            put_end(*channels[from], channels[to]);
        }
        std::vector<bool> reached(count);
        std::vector<std::size_t> fresh;
        for (std::size_t i = 0; i < count; ++i) {
            if (random() % 4 == 0) fresh.push_back(i);
        }
        std::vector<Handle<Channel>> outside;
        for (const std::size_t i : fresh) outside.push_back(channels[i]);
        std::vector<std::uint64_t> ids;
        for (const auto& channel : channels) ids.push_back(channel->id());
        channels.clear();
        while (!fresh.empty()) {
            const std::size_t at = fresh.back();
            fresh.pop_back();
            if (reached[at]) continue;
            reached[at] = true;
            for (const std::size_t next : leads[at]) fresh.push_back(next);
        }
        table().collect();
        for (std::size_t i = 0; i < count; ++i) {
            const Handle<Channel> found = table().find(ids[i]);
            CHECK_EQ(static_cast<bool>(found), reached[i]);
            if (found) CHECK_EQ(found->size(), leads[i].size());
        }
        outside.clear();
        table().collect();
        CHECK_EQ(table().size(), before);
    }
}

TEST(long_chains_of_channels_end_without_deep_recursion) {
    const std::size_t before = table().size();
    Handle<Channel> head = make_channel();
    for (int i = 0; i < 100'000; ++i) {
        Handle<Channel> next = make_channel();
        put_end(*next, head);
        head = std::move(next);
    }
    head.reset();
    CHECK_EQ(table().size(), before);
}

TEST(channels_that_are_in_use_can_be_collected_around) {
    // Others look up, send ends and take them out, while rings become garbage and are collected.
    const std::size_t before = table().size();
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    Handle<Channel> line = make_channel();
    Tally tally;
    for (unsigned seed = 1; seed <= 2; ++seed) {
        threads.emplace_back([&, seed] {
            std::mt19937 random(seed);
            while (!stop) {
                // The collection takes all locks at a time; ThreadSanitizer counts no more than 64.
                if (table().size() > before + 40) {
                    std::this_thread::yield();
                    continue;
                }
                Handle<Channel> channel = make_channel();
                put_end(*line, channel, Side::both, counted(tally));
                if (random() % 2) put_end(*channel, channel, Side::both, counted(tally));
                if (random() % 2) put_end(*channel, line, Side::send, counted(tally));
                Message message;
                while (line->size() > 10) {
                    if (line->try_recv(1, message) == Status::ok) message.reset();
                }
            }
        });
    }
    std::size_t collected = 0;
    while (collected < 100) collected += table().collect();
    stop = true;
    for (auto& thread : threads) thread.join();
    line.reset();
    table().collect();
    CHECK_EQ(table().size(), before);
    CHECK_EQ(tally.destroyed.load(), tally.made.load());
}

int main(int count, char** arguments) { return check::run(count, arguments); }
