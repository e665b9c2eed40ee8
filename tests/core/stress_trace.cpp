// Recordings that begin and end while threads send, receive, lend and give back, and come and go.
#include <map>
#include <random>
#include <set>
#include <string>

#include "recorded.hpp"
#include "stress.hpp"

using namespace fake;

namespace {

const std::string task_name = "a task whose name is not within the string itself";

void talk(Channel& channel, Interpreter& owner, Interpreter& user, Tally& tally, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < 60; ++i) {
        {
            const Attached attached(owner);
            Message message = numbered(1, lend(owner, tally, random() % 2, channel.id()));
            CHECK_EQ(channel.try_send(owner.id, message), Status::ok);
        }
        if (random() % 4 == 0) registry().recorder.record({.kind = Traced::task}, task_name);
        const Attached attached(user);
        Message message;
        const Status status = channel.try_recv(user.id, message);
        CHECK(status == Status::ok || status == Status::empty);
    }
}

// Each number is used for one thing, and what was received was sent before.
void check_numbers(Recorded& recorded, bool complete) {
    std::map<std::uint64_t, TraceEvent> sent;
    std::set<std::uint64_t> lent, received, returned;
    for (const TraceEvent& event : recorded.events()) {
        CHECK(event.begin_ns <= event.end_ns);
        if (event.kind == Traced::task) CHECK_EQ(event.name, task_name);
        if (!event.id || !recorded->knows(event.id)) continue;
        if (event.kind == Traced::send) CHECK(sent.emplace(event.id, event).second);
        if (event.kind == Traced::lend) CHECK(lent.insert(event.id).second);
        if (event.kind == Traced::recv) CHECK(received.insert(event.id).second);
        if (event.kind == Traced::give_back) CHECK(returned.insert(event.id).second);
    }
    if (!complete) return;
    for (const TraceEvent& event : recorded.events(Traced::recv)) {
        if (!recorded->knows(event.id)) continue;
        const auto send = sent.find(event.id);
        CHECK(send != sent.end());
        CHECK(send->second.begin_ns <= event.end_ns);
    }
    for (const std::uint64_t id : returned) CHECK(lent.contains(id));
}

void play(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Interpreter &owner = host().create(), &user = host().create();
    const Handle<Channel> channel = make_channel();
    Tally tally;
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 3; ++i)
        threads.emplace_back([&, i] { talk(*channel, owner, user, tally, seed * 10 + i); });
    std::atomic<bool> done{false};
    std::thread recorder([&] {
        std::mt19937_64 moves(seed);
        while (!done) {
            const bool small = moves() % 2;
            Recorded recorded(small ? 100 : 100'000, owner.id);
            std::this_thread::sleep_for(std::chrono::microseconds(moves() % 800));
            if (moves() % 4 == 0) registry().recorder.end(owner.id);
            // A thread that was between its send and its record when the recording stopped has recorded
            // neither; a receiver that was quicker than it has recorded what nobody is known to have sent.
            check_numbers(recorded, false);
            if (small) CHECK(recorded.events().size() <= 100);
            recorded->forget_events();
        }
    });
    for (std::thread& thread : threads) thread.join();
    done = true;
    recorder.join();
    {
        Recorded recorded;
        std::vector<std::thread> again;
        for (std::uint64_t i = 0; i < 3; ++i)
            again.emplace_back([&, i] { talk(*channel, owner, user, tally, seed * 10 + i); });
        for (std::thread& thread : again) thread.join();
        CHECK(registry().owners.await_idle(std::chrono::milliseconds(10'000)));
        check_numbers(recorded, true);
        CHECK_EQ(recorded->dropped(), 0u);
        CHECK_EQ(recorded.events(Traced::send).size(), 180u);
        CHECK_EQ(recorded.events(Traced::lend).size(), 180u);
    }
    {
        const Attached attached(user);
        channel->drain();
    }
    eventually([&] { return tally.given_back == tally.made; });
    host().unreference(owner);
    host().unreference(user);
}

}  // namespace

TEST(recordings_come_and_go_while_threads_work) { fake::for_each_seed(play); }

int main(int count, char** arguments) { return check::run(count, arguments); }
