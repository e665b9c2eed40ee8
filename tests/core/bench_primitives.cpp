// What the core's locks and channels take without Python: for memchannel.bench, which runs it. Not a test.
//
// Usage: bench_primitives WHAT AMOUNT [THREADS]; prints the seconds of one turn.
#include <sys/mman.h>

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

// Takes steps for a while, until the scheduler has parted the two sides, then counts: seconds of one.
template <class Step>
double settled(long count, Step step) {
    constexpr double pause = 0.1;  // memchannel.bench gives its own sides as much
    for (const std::int64_t begin = monotonic_ns(); seconds_since(begin) < pause;) step();
    const std::int64_t begin = monotonic_ns();
    for (long i = 0; i < count; ++i) step();
    return seconds_since(begin) / static_cast<double>(count);
}

// Two threads wake each other in turn, with two locks: seconds of one hand-over.
double handoff(long count) {
    const auto there = make<Lock>(false), back = make<Lock>(false);
    const Member here;
    check_ok(acquire(*there, here.caller()));
    check_ok(acquire(*back, here.caller()));
    std::atomic<bool> stop{false};
    std::thread other([&] {
        const Member member;
        const Caller who = member.caller();
        for (;;) {
            check_ok(acquire(*there, who));
            if (stop) return;
            check_ok(back->release(who));
        }
    });
    const Caller who = here.caller();
    const double seconds = settled(count, [&] {
        check_ok(there->release(who));
        check_ok(acquire(*back, who));
    });
    stop = true;
    check_ok(there->release(who));
    other.join();
    return seconds / 2;
}

// Two threads send numbers to each other in turn, over two channels: seconds of one round trip.
double roundtrip(long count) {
    const auto there = make_channel(), back = make_channel();
    const Member here;
    constexpr std::uint64_t end = 0;
    std::thread other([&] {
        const Member member;
        const OwnerId who = member.caller().owner.id();
        for (std::uint64_t number = end; (number = recv_number(*there, who)) != end;) {
            check_ok(send_number(*back, who, number));
        }
    });
    const OwnerId who = here.caller().owner.id();
    std::uint64_t number = end;
    const double seconds = settled(count, [&] {
        check_ok(send_number(*there, who, ++number));
        CHECK_EQ(recv_number(*back, who), number);
    });
    check_ok(send_number(*there, who, end));
    other.join();
    return seconds;
}

// What each of some threads does over and over for some time: seconds of one turn of all of them together.
template <class Make>
double turns_of(double seconds, std::size_t threads, Make make) {
    constexpr long batch = 100;  // turns between looks at the clock's verdict
    std::atomic<bool> stop{false};
    std::atomic<long> turns{0};
    std::vector<std::thread> all;
    const std::int64_t begin = monotonic_ns();
    for (std::size_t i = 0; i < threads; ++i) {
        all.emplace_back([&] {
            auto turn = make();
            while (!stop) {
                for (long done = 0; done < batch; ++done) turn();
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

// One lock, taken and let go.
double contended(double seconds, std::size_t threads) {
    const auto lock = make<Lock>(false);
    return turns_of(seconds, threads, [&] {
        return [&, member = Member()] {
            check_ok(acquire(*lock, member.caller()));
            check_ok(lock->release(member.caller()));
        };
    });
}

// One channel, in which each turn sends a message and takes one.
double queued(double seconds, std::size_t threads) {
    const auto channel = make_channel();
    return turns_of(seconds, threads, [&] {
        return [&, member = Member()] {
            const OwnerId who = member.caller().owner.id();
            check_ok(send_number(*channel, who, 1));
            static_cast<void>(recv_number(*channel, who));
        };
    });
}

// One count, as that of a lease: up and down.
double counted(double seconds, std::size_t threads) {
    std::atomic<long> count{1};
    return turns_of(seconds, threads, [&] {
        return [&] {
            count.fetch_add(1, std::memory_order_relaxed);
            count.fetch_sub(1, std::memory_order_acq_rel);
        };
    });
}

class BareLease final : public OwnedLease {
   public:
    explicit BareLease(Owner& owner) noexcept : OwnedLease(owner, 8, no_channel, false) {}
    void give_back() noexcept override {}

    static LeaseRef lent(Owner& owner) {
        auto* const lease = new BareLease(owner);
        CHECK(registry().owners.lend(*lease));
        return LeaseRef::adopt(lease);
    }
};

// An interpreter that has lent something, on its own thread.
class Lender {
   public:
    Lender() : interpreter_(host().create()), attached_(interpreter_), kept_(BareLease::lent(owner())) {}
    Owner& owner() const { return *interpreter_.owner; }

   private:
    Interpreter& interpreter_;
    const Attached attached_;
    const LeaseRef kept_;  // the way to its first lease, and from its last one, is another
};

// A lease made and given back, in each thread: the accounts are those of the whole process.
double lent(double seconds, std::size_t threads) {
    return turns_of(seconds, threads, [] {
        return [lender = Lender()] { static_cast<void>(BareLease::lent(lender.owner())); };
    });
}

// A message made and dropped, in each thread.
double allocated(double seconds, std::size_t threads) {
    return turns_of(seconds, threads, [] { return [] { static_cast<void>(numbered(1)); }; });
}

// A page that comes and goes: the page tables are those of the whole process.
double mapped(double seconds, std::size_t threads) {
    constexpr std::size_t page = 4096;
    return turns_of(seconds, threads, [] {
        return [] {
            void* memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(memory != MAP_FAILED);
            *static_cast<volatile char*>(memory) = 1;
            CHECK_EQ(munmap(memory, page), 0);
        };
    });
}

struct Kind {
    const char* name;
    double (*measure)(double, std::size_t);
};
constexpr Kind kinds[] = {{"contended", contended}, {"queued", queued},       {"counted", counted},
                          {"lent", lent},           {"allocated", allocated}, {"mapped", mapped}};

double measured(const std::string& what, double amount, std::size_t threads) {
    const long rounds = std::max(1L, static_cast<long>(amount));
    if (what == "handoff") return handoff(rounds);
    if (what == "roundtrip") return roundtrip(rounds);
    for (const Kind& kind : kinds) {
        if (what == kind.name) return kind.measure(amount, threads);
    }
    return -1;
}

}  // namespace

int main(int count, char** arguments) {
    const std::string what = count > 1 ? arguments[1] : "";
    const double amount = count > 2 ? std::strtod(arguments[2], nullptr) : 0;
    const long threads = count > 3 ? std::strtol(arguments[3], nullptr, 10) : 1;
    if (amount > 0 && threads >= 1) {
        static_cast<void>(host());
        const double seconds = measured(what, amount, static_cast<std::size_t>(threads));
        if (seconds >= 0) {
            std::printf("%.12g\n", seconds);
            return 0;
        }
    }
    std::fputs(
        "usage: bench_primitives handoff COUNT | roundtrip COUNT\n"
        "       bench_primitives contended | queued | counted | lent | allocated | mapped SECONDS "
        "[THREADS]\n",
        stderr);
    return 2;
}
