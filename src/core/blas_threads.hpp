// How many threads the BLAS libraries of the process use while tasks run: N tasks at once, each with a thread
// for every core, would get in each other's way.
//
// A library has one setting for all interpreters. It is changed when the first task begins, and put back when
// no task runs.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace memchannel {

// What those who run tasks ask for.
struct BlasShare {
    int threads = 0;            // 0: anything
    bool more_allowed = false;  // raise a library's setting, too

    auto operator<=>(const BlasShare&) const = default;
};

class BlasThreads {
   public:
    using Get = int (*)();
    using Set = void (*)(long);  // takes int or long, which are passed alike

    // Each library once, told apart by `set`. One that comes while tasks run is limited at once.
    void add(Get get, Set set);
    void enter(BlasShare share);
    void leave(BlasShare share) noexcept;

   private:
    struct Library {
        Get get;
        Set set;
        int before = 0;  // to be put back; 0: nothing is
        int asked = 0;   // as it was set here
        int now = 0;     // what came of it: a library takes no more than it was built for
    };

    void apply(Library& library) noexcept;

    std::mutex mutex_;  // nothing else is locked or awaited under it, but in the libraries' functions
    std::vector<Library> libraries_;
    std::map<BlasShare, std::size_t> running_;  // tasks; the smallest share holds for all
};

// A worker's claim on its share: taken while it has tasks.
class BlasClaim {
   public:
    BlasClaim(BlasThreads& all, BlasShare share) noexcept : all_(all), share_(share) {}
    BlasClaim(const BlasClaim&) = delete;
    BlasClaim& operator=(const BlasClaim&) = delete;
    ~BlasClaim() { leave(); }

    void enter() {
        if (entered_ || share_.threads == 0) return;
        all_.enter(share_);
        entered_ = true;
    }
    bool entered() const noexcept { return entered_; }
    void leave() noexcept {
        if (entered_) all_.leave(share_);
        entered_ = false;
    }

   private:
    BlasThreads& all_;
    const BlasShare share_;
    bool entered_ = false;
};

}  // namespace memchannel
