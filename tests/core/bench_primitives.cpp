// What the core's locks and channels take without Python: for memchannel.bench, which runs it. Not a test.
//
// Usage: bench_primitives handoff COUNT | roundtrip COUNT | contended SECONDS [THREADS]; prints seconds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/lock.hpp"
#include "primitives.hpp"

using namespace fake;

namespace {

double seconds_since(std::int64_t begin_ns) { return static_cast<double>(monotonic_ns() - begin_ns) * 1e-9; }

// Each thread is in an interpreter of its own, and attached to none, so that no GIL is waited for.
class Member {
   public:
    Member() : owner_(registry().owners.enroll(new_id(), nullptr)) {}
    Caller caller() const { return {owner_, this_thread()}; }

   private:
    Owner& owner_;
};

void check_ok(Status status) { CHECK_EQ(status, Status::ok); }

// Two threads wake each other in turn, with two locks: seconds of one hand-over.
double handoff(long count) {
    const auto there = make<Lock>(false), back = make<Lock>(false);
    const Member here;
    check_ok(acquire(*there, here.caller()));
    check_ok(acquire(*back, here.caller()));
    std::thread other([&] {
        const Member member;
        const Caller who = member.caller();
        for (long i = 0; i < count; ++i) {
            check_ok(acquire(*there, who));
            check_ok(back->release(who));
        }
    });
    const Caller who = here.caller();
    const std::int64_t begin = monotonic_ns();
    for (long i = 0; i < count; ++i) {
        check_ok(there->release(who));
        check_ok(acquire(*back, who));
    }
    const double seconds = seconds_since(begin);
    other.join();
    return seconds / static_cast<double>(2 * count);
}

// Two threads send numbers to each other in turn, over two channels: seconds of one round trip.
double roundtrip(long count) {
    const auto there = make_channel(), back = make_channel();
    const Member here;
    std::thread other([&] {
        const Member member;
        const OwnerId who = member.caller().owner.id();
        for (long i = 0; i < count; ++i) check_ok(send_number(*back, who, recv_number(*there, who)));
    });
    const OwnerId who = here.caller().owner.id();
    const std::int64_t begin = monotonic_ns();
    for (long i = 0; i < count; ++i) {
        const auto number = static_cast<std::uint64_t>(i);
        check_ok(send_number(*there, who, number));
        CHECK_EQ(recv_number(*back, who), number);
    }
    const double seconds = seconds_since(begin);
    other.join();
    return seconds / static_cast<double>(count);
}

// Threads that take one lock and let it go, over and over, for some time: seconds of one turn.
double contended(double seconds, std::size_t threads) {
    constexpr long batch = 100;  // turns between looks at the clock's verdict
    const auto lock = make<Lock>(false);
    std::atomic<bool> stop{false};
    std::atomic<long> turns{0};
    std::vector<std::thread> all;
    const std::int64_t begin = monotonic_ns();
    for (std::size_t i = 0; i < threads; ++i) {
        all.emplace_back([&] {
            const Member member;
            const Caller who = member.caller();
            while (!stop) {
                for (long turn = 0; turn < batch; ++turn) {
                    check_ok(acquire(*lock, who));
                    check_ok(lock->release(who));
                }
                turns += batch;
            }
        });
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
    const double passed = seconds_since(begin);
    const long counted = turns;
    for (std::thread& thread : all) thread.join();
    return passed / static_cast<double>(std::max(counted, 1L));
}

}  // namespace

int main(int count, char** arguments) {
    const std::string what = count > 1 ? arguments[1] : "";
    const double amount = count > 2 ? std::strtod(arguments[2], nullptr) : 0;
    const long threads = count > 3 ? std::strtol(arguments[3], nullptr, 10) : 1;
    if (!(amount > 0) || threads < 1 || (what != "handoff" && what != "roundtrip" && what != "contended")) {
        std::fputs("usage: bench_primitives handoff COUNT | roundtrip COUNT | contended SECONDS [THREADS]\n",
                   stderr);
        return 2;
    }
    static_cast<void>(host());
    const long rounds = std::max(1L, static_cast<long>(amount));
    const double seconds = what == "handoff"     ? handoff(rounds)
                           : what == "roundtrip" ? roundtrip(rounds)
                                                 : contended(amount, static_cast<std::size_t>(threads));
    std::printf("%.12g\n", seconds);
    return 0;
}
