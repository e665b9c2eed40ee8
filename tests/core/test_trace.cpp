// Recordings: what is recorded of what happens, how much of it is kept, and who may record.
#include <sys/wait.h>
#include <unistd.h>

#include "recorded.hpp"

using namespace fake;

namespace {

TraceEvent instant(std::uint64_t id) {
    const std::int64_t now = monotonic_ns();
    return {.begin_ns = now, .end_ns = now, .interpreter = 1, .id = id, .kind = Traced::submit};
}

void record_some(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) registry().recorder.record(instant(i));
}

}  // namespace

TEST(nothing_is_recorded_without_a_recording) {
    static_cast<void>(host());
    CHECK(!tracing());
    record_some(1);
    CHECK_EQ(registry().recorder.number(), 0u);
    registry().recorder.record(instant(0), "name");
    const Handle<Channel> channel = make_channel();
    CHECK_EQ(send_number(*channel, 1, 7), Status::ok);
    Message message;
    CHECK_EQ(channel->try_recv(1, message), Status::ok);
    CHECK_EQ(message.trace_id(), 0u);
}

TEST(there_is_one_recording_at_a_time) {
    Recorded first(10, 5);
    CHECK(tracing());
    CHECK_EQ(registry().recorder.starter(), 5);
    CHECK(!registry().recorder.start(6, registry().generation, 10));
    CHECK(first.stop());
    CHECK(!first.stop());
    CHECK(!tracing());
    CHECK_EQ(registry().recorder.starter(), no_owner);
    Recorded second;
    CHECK(!first.stop());  // another one's
    CHECK(tracing());
    CHECK_EQ(first.events().size(), 0u);
}

TEST(a_recording_ends_with_the_interpreter_that_started_it) {
    Recorded recorded(10, 5);
    registry().recorder.end(6);
    CHECK(tracing());
    registry().recorder.end(5);
    CHECK(!tracing());
    CHECK(recorded->ended_ns() >= recorded->began_ns());
}

TEST(sends_and_receives_of_a_message_have_one_number) {
    const Handle<Channel> channel = make_channel();
    Recorded recorded;
    Tally tally;
    Message message = numbered(1, counted(tally));
    CHECK_EQ(channel->try_send(3, message), Status::ok);
    CHECK_EQ(send_number(*channel, 3, 2), Status::ok);
    CHECK_EQ(channel->try_recv(4, message), Status::ok);
    CHECK_EQ(channel->try_recv(4, message), Status::ok);
    CHECK_EQ(channel->try_recv(4, message), Status::empty);
    const auto events = recorded.events();
    CHECK_EQ(events.size(), 4u);
    for (std::size_t i = 0; i < 2; ++i) {
        const TraceEvent &sent = events[i], &received = events[i + 2];
        CHECK_EQ(sent.kind, Traced::send);
        CHECK_EQ(received.kind, Traced::recv);
        CHECK_EQ(sent.interpreter, 3);
        CHECK_EQ(received.interpreter, 4);
        CHECK_EQ(sent.object, channel->id());
        CHECK_EQ(sent.id, received.id);
        CHECK_EQ(sent.amount, sizeof(std::uint64_t));
        CHECK(recorded->knows(sent.id));
        CHECK(sent.begin_ns <= received.end_ns);
    }
    CHECK(events[0].id != events[1].id);
}

TEST(messages_from_before_have_no_number_that_the_recording_knows) {
    const Handle<Channel> channel = make_channel();
    CHECK_EQ(send_number(*channel, 1, 1), Status::ok);
    {
        Recorded earlier;
        CHECK_EQ(send_number(*channel, 1, 2), Status::ok);
    }
    Recorded recorded;
    Message message;
    CHECK_EQ(channel->try_recv(1, message), Status::ok);
    CHECK_EQ(channel->try_recv(1, message), Status::ok);
    for (const TraceEvent& event : recorded.events()) CHECK(!recorded->knows(event.id));
}

TEST(a_call_with_many_messages_is_one_event) {
    const Handle<Channel> channel = make_channel(3);
    Recorded recorded;
    MessageQueue queue;
    for (std::uint64_t number = 0; number < 5; ++number) queue.push(numbered(number));
    CHECK_EQ(channel->try_send_many(1, queue), Status::full);  // two are left
    std::vector<Message> received;
    CHECK_EQ(channel->try_recv_many(2, 10, received), Status::ok);
    CHECK_EQ(channel->try_send_many(1, queue), Status::ok);
    received.clear();
    CHECK_EQ(channel->try_recv_many(2, 10, received), Status::ok);
    const auto sent = recorded.events(Traced::send), got = recorded.events(Traced::recv);
    CHECK_EQ(sent.size(), 2u);
    CHECK_EQ(got.size(), 2u);
    CHECK_EQ(sent[0].count, 3u);
    CHECK_EQ(sent[0].amount, 3 * sizeof(std::uint64_t));
    CHECK_EQ(sent[1].count, 2u);
    CHECK_EQ(sent[1].id, sent[0].id + 3);
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK_EQ(got[i].id, sent[i].id);
        CHECK_EQ(got[i].count, sent[i].count);
    }
}

TEST(messages_of_two_calls_that_one_call_receives_are_two_events) {
    const Handle<Channel> channel = make_channel();
    Recorded recorded;
    std::thread([&] { CHECK_EQ(send_number(*channel, 1, 1), Status::ok); }).join();
    CHECK_EQ(send_number(*channel, 1, 2), Status::ok);
    std::vector<Message> received;
    CHECK_EQ(channel->try_recv_many(2, 10, received), Status::ok);
    const auto got = recorded.events(Traced::recv);
    CHECK_EQ(got.size(), 2u);
    CHECK_EQ(got[0].count, 1u);
    CHECK_EQ(got[1].count, 1u);
}

TEST(calls_that_wait_are_recorded_when_they_are_done) {
    const Handle<Channel> channel = make_channel(0);
    Recorded recorded;
    std::thread sender([&] { CHECK_EQ(send_number(*channel, 1, 9), Status::ok); });
    until_waiting(*channel, 0, 1);
    CHECK_EQ(recv_number(*channel, 2), 9u);
    sender.join();
    const auto sent = recorded.events(Traced::send), got = recorded.events(Traced::recv);
    CHECK_EQ(sent.size(), 1u);
    CHECK_EQ(got.size(), 1u);
    CHECK_EQ(sent[0].id, got[0].id);
    CHECK(sent[0].begin_ns <= got[0].begin_ns);  // it was there before
    CHECK(sent[0].end_ns >= got[0].begin_ns);
}

TEST(calls_that_give_up_are_no_messages) {
    const Handle<Channel> channel = make_channel(0);
    Recorded recorded;
    Message message = numbered(1);
    CHECK_EQ(send(*channel, 1, message, in_ms(1)), Status::timeout);
    CHECK_EQ(recv(*channel, 1, message, in_ms(1)), Status::timeout);
    CHECK_EQ(recorded.events().size(), 0u);
}

TEST(a_call_left_to_an_event_loop_has_no_length) {
    const Handle<Channel> channel = make_channel(1);
    CHECK_EQ(send_number(*channel, 1, 1), Status::ok);
    Recorded recorded;
    Waiter waiter(1, "send_async", channel->id(), Side::send);
    SendEntry entry;
    entry.waiter = &waiter;
    entry.message = numbered(2);
    CHECK_EQ(channel->enlist_send(entry), Status::parked);
    entry.span.leave_to_loop();
    CHECK_EQ(recv_number(*channel, 2), 1u);
    CHECK_EQ(recv_number(*channel, 2), 2u);
    CHECK_EQ(channel->finish_send(entry), Status::ok);
    const auto sent = recorded.events(Traced::send);
    CHECK_EQ(sent.size(), 1u);
    CHECK_EQ(sent[0].begin_ns, sent[0].end_ns);
    CHECK(sent[0].begin_ns <= recorded.events(Traced::recv)[1].end_ns);
}

TEST(a_broadcast_is_received_by_each_under_the_number_it_was_sent) {
    const Handle<Channel> channel = make_channel();
    Handle<Channel> first, second;
    CHECK_EQ(channel->subscribe(1, first), Status::ok);
    CHECK_EQ(channel->subscribe(1, second), Status::ok);
    Recorded recorded;
    CHECK_EQ(send_number(*channel, 1, 5), Status::ok);
    CHECK_EQ(recv_number(*first, 1), 5u);
    CHECK_EQ(recv_number(*second, 1), 5u);
    const auto events = recorded.events();
    CHECK_EQ(events.size(), 3u);
    CHECK_EQ(events[1].id, events[0].id);
    CHECK_EQ(events[2].id, events[0].id);
}

TEST(lent_memory_is_followed_until_it_is_back) {
    Interpreter &owner = host().create(), &user = host().create();
    Recorded recorded;
    Tally tally;
    LeaseRef lease;
    {
        const Attached attached(owner);
        lease = lend(owner, tally, false, 77);
    }
    {
        const Attached attached(user);
        lease.reset();
        CHECK_EQ(host().current(), user.id);
    }
    const auto lent = recorded.events(Traced::lend), back = recorded.events(Traced::give_back),
               visits = recorded.events(Traced::visit);
    CHECK_EQ(lent.size(), 1u);
    CHECK_EQ(back.size(), 1u);
    CHECK_EQ(visits.size(), 1u);
    CHECK_EQ(lent[0].interpreter, owner.id);
    CHECK_EQ(lent[0].object, 77u);
    CHECK_EQ(lent[0].amount, 8u);
    CHECK_EQ(back[0].id, lent[0].id);
    CHECK_EQ(back[0].interpreter, user.id);
    CHECK_EQ(back[0].other, owner.id);
    CHECK_EQ(visits[0].interpreter, user.id);
    CHECK_EQ(visits[0].other, owner.id);
    CHECK(visits[0].begin_ns <= back[0].begin_ns && back[0].end_ns <= visits[0].end_ns);
    CHECK(static_cast<std::int64_t>(visits[0].id + visits[0].amount) <=
          visits[0].end_ns - visits[0].begin_ns);
    host().unreference(owner);
    host().unreference(user);
}

TEST(memory_that_the_reaper_gives_back_is_followed_too) {
    Interpreter& owner = host().create();
    Recorded recorded;
    Tally tally;
    LeaseRef lease;
    {
        const Attached attached(owner);
        lease = lend(owner, tally, true);
    }
    lease.reset();
    eventually([&] { return tally.given_back == 1; });
    CHECK(registry().owners.await_idle(std::chrono::milliseconds(10'000)));
    CHECK_EQ(recorded.events(Traced::give_back).size(), 1u);
    CHECK_EQ(recorded.events(Traced::give_back)[0].id, recorded.events(Traced::lend)[0].id);
    host().unreference(owner);
}

TEST(memory_whose_owner_ended_is_abandoned) {
    Interpreter &owner = host().create(), &user = host().create();
    Recorded recorded;
    Tally tally;
    LeaseRef lease;
    {
        const Attached attached(owner);
        lease = lend(owner, tally);
    }
    host().end(owner);
    {
        const Attached attached(user);
        lease.reset();
    }
    const auto left = recorded.events(Traced::abandon);
    CHECK_EQ(left.size(), 1u);
    CHECK_EQ(left[0].interpreter, user.id);
    CHECK_EQ(left[0].other, owner.id);
    CHECK_EQ(left[0].id, recorded.events(Traced::lend)[0].id);
    host().unreference(user);
}

TEST(the_first_events_up_to_the_limit_are_kept_and_the_rest_counted) {
    for (const std::size_t limit : {std::size_t{1}, Recording::claim, Recording::claim * 2 + 5}) {
        Recorded recorded(limit);
        record_some(limit + 9);
        const auto events = recorded.events();
        CHECK_EQ(events.size(), limit);
        CHECK_EQ(events.back().id, limit - 1);
        CHECK_EQ(recorded->dropped(), 9u);
    }
}

TEST(events_are_cut_at_the_beginning) {
    Recorded recorded;
    registry().recorder.record({.begin_ns = 1, .end_ns = monotonic_ns(), .kind = Traced::run});
    registry().recorder.record({.begin_ns = 1, .end_ns = 2, .kind = Traced::run});
    for (const TraceEvent& event : recorded.events()) {
        CHECK(event.begin_ns >= recorded->began_ns());
        CHECK(event.end_ns >= event.begin_ns);
    }
}

TEST(threads_are_told_by_name) {
    Recorded recorded;
    std::thread([] {
        name_thread("a name that is longer than the system's fifteen characters");
        record_some(1);
    }).join();
    std::thread([] {
        pthread_setname_np(pthread_self(), "short");
        record_some(1);
    }).join();
    recorded.stop();
    CHECK_EQ(recorded->logs().size(), 2u);
    CHECK_EQ(recorded->logs()[0].label(), "a name that is longer than the system's fifteen characters");
    CHECK_EQ(recorded->logs()[1].label(), "short");
}

TEST(names_are_kept_as_long_as_the_recording) {
    Recorded recorded;
    {
        const std::string name = "a function whose name is not within the string itself";
        registry().recorder.record(instant(1), name);
        registry().recorder.record(instant(2), name);
    }
    recorded.stop();
    const auto events = recorded.events();
    CHECK_EQ(std::string(events[0].name), "a function whose name is not within the string itself");
    CHECK_EQ(events[0].name, events[1].name);
}

TEST(events_can_be_forgotten_while_threads_still_hold_the_recording) {
    {
        Recorded recorded;
        record_some(1000);
        recorded.stop();
        recorded->forget_events();
        CHECK_EQ(recorded.events().size(), 0u);
    }
    Recorded again;  // this thread's log is a new one
    record_some(1);
    CHECK_EQ(again.events().size(), 1u);
}

TEST(a_forked_child_is_not_recorded) {
    Recorded recorded;
    record_some(1);
    const pid_t child = fork();
    if (child == 0) {
        const bool quiet = !tracing() && registry().recorder.number() == 0;
        record_some(1);
        const auto own = registry().recorder.start(0, registry().generation, 10);
        const bool starts = own && tracing();
        record_some(2);
        const bool stops = registry().recorder.stop(*own) && own->logs()[0].events().size() == 2;
        _exit(quiet && starts && stops ? 0 : 1);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(tracing());
    CHECK_EQ(recorded.events().size(), 1u);
}

int main(int count, char** arguments) { return check::run(count, arguments); }
